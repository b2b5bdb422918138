import assert from 'node:assert/strict';
import { suite, test } from 'node:test';

import { EngineError } from '../core/engine-error.ts';
import { logAttributes } from './log-attributes.ts';
import { checkDefaultLog, parseLogOptions, type LogConfig } from './log-options.ts';

const parse = (driver: string, options: Record<string, string> = {}): LogConfig =>
  parseLogOptions({ driver, options }, { driver: '', options: {} });

suite('parseLogOptions', () => {
  test('parseLogOptions: sizes and files', () => {
    for (const [options, file] of [
      [{}, { maxSizeBytes: 100_000_000, maxFiles: 5 }],
      [{ 'max-size': '10m' }, { maxSizeBytes: 10_000_000, maxFiles: 1 }],
      [{ 'max-size': '9'.repeat(30) }, { maxSizeBytes: Number.MAX_SAFE_INTEGER, maxFiles: 1 }],
      [
        { 'max-size': '2k', 'max-file': '2' },
        { maxSizeBytes: 2000, maxFiles: 2 },
      ],
      [
        { 'max-size': '1.5g', 'max-file': '3', compress: 'false' },
        { maxSizeBytes: 1_500_000_000, maxFiles: 3 },
      ],
      [{ 'max-size': '-1' }, { maxSizeBytes: null, maxFiles: 1 }],
      [
        { mode: 'non-blocking', 'max-buffer-size': '4m' },
        { maxSizeBytes: 100_000_000, maxFiles: 5 },
      ],
    ] as const) {
      assert.deepEqual(parse('json-file', options).file, file, JSON.stringify(options));
      assert.deepEqual(parse('', options).driver, 'json-file');
    }
    assert.deepEqual(parse('none', { anything: 'x' }).file, null);
    assert.deepEqual(parse('local').file, { maxSizeBytes: 20_000_000, maxFiles: 5 });
  });

  test('checkDefaultLog: a daemon with wrong defaults does not start', () => {
    checkDefaultLog({ driver: 'json-file', options: { 'max-size': '1m' } });
    assert.throws(() => checkDefaultLog({ driver: 'json-file', options: { x: 'y' } }), {
      code: 'LOG_OPTION_INVALID',
      message: "failed to start daemon: failed to set log opts: unknown log opt 'x' for json-file log driver",
    });
    assert.throws(() => checkDefaultLog({ driver: 'nope', options: {} }), {
      message: "failed to start daemon: failed to set log opts: logger: no log driver named 'nope' is registered",
    });
  });

  test("parseLogOptions: Docker's words for what is wrong", () => {
    for (const [driver, options, code, message] of [
      ['nosuch', {}, 'LOG_DRIVER_UNKNOWN', "logger: no log driver named 'nosuch' is registered"],
      ['constructor', {}, 'LOG_DRIVER_UNKNOWN', "logger: no log driver named 'constructor' is registered"],
      ['json-file', { nope: '1' }, 'LOG_OPTION_INVALID', "unknown log opt 'nope' for json-file log driver"],
      ['local', { labels: 'a' }, 'LOG_OPTION_INVALID', "unknown log opt 'labels' for log driver local"],
      [
        'json-file',
        { 'max-size': 'x' },
        'LOG_OPTION_INVALID',
        "failed to initialize logging driver: invalid size: 'x'",
      ],
      [
        'json-file',
        { 'max-size': '0' },
        'LOG_OPTION_INVALID',
        'failed to initialize logging driver: max-size must be a positive number',
      ],
      [
        'json-file',
        { 'max-file': '0' },
        'LOG_OPTION_INVALID',
        'failed to initialize logging driver: max-file cannot be less than 1',
      ],
      ['json-file', { mode: 'x' }, 'LOG_OPTION_INVALID', 'logger: logging mode not supported: x'],
      [
        'json-file',
        { 'max-buffer-size': '1m' },
        'LOG_OPTION_INVALID',
        "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
      ],
      ['json-file', { 'labels-regex': '(' }, 'LOG_OPTION_INVALID', null],
      ['json-file', { tag: '{{.Nope}}' }, 'LOG_OPTION_INVALID', null],
      ['json-file', { tag: '{{range .ContainerEnv}}x{{end}}' }, 'LOG_OPTION_INVALID', null],
      [
        'json-file',
        { compress: 'true', 'max-size': '1m' },
        'LOG_OPTION_INVALID',
        'failed to initialize logging driver: compress cannot be true when max-file is less than 2 or max-size is not set',
      ],
    ] as const) {
      assert.throws(
        () => parse(driver, options),
        (error: unknown) =>
          error instanceof EngineError && error.code === code && (message === null || error.message === message),
        JSON.stringify([driver, options]),
      );
    }
  });

  test("parseLogOptions: the daemon's options count for the daemon's driver alone", () => {
    const defaults = { driver: 'json-file', options: { 'max-size': '1m', 'max-file': '3' } };
    assert.deepEqual(parseLogOptions({ driver: '', options: { 'max-file': '7' } }, defaults).file, {
      maxSizeBytes: 1_000_000,
      maxFiles: 7,
    });
    assert.deepEqual(parseLogOptions({ driver: 'local', options: {} }, defaults).file, {
      maxSizeBytes: 20_000_000,
      maxFiles: 5,
    });
  });
});

test('logAttributes: labels, variables and tag, as Docker picks them', () => {
  const { selection } = parse('json-file', {
    labels: 'a,zz',
    'labels-regex': '^com\\.',
    env: 'X',
    'env-regex': 'P.*',
    tag: '{{.Name}}/{{.ID}}/{{.ImageID}}',
  });
  const attributes = logAttributes(selection, {
    containerId: '0123456789abcdef',
    containerName: 'web',
    imageId: 'sha256:abcdef0123456789',
    imageName: 'busybox',
    createdAt: '2026-11-22T00:00:00Z',
    labels: { a: '1', b: '2', 'com.x': '3' },
    env: ['X=y=z', 'PATH=/bin', 'NOPE', 'Q=1'],
    command: ['sh'],
  });
  assert.deepEqual(attributes, { a: '1', 'com.x': '3', X: 'y=z', PATH: '/bin', tag: 'web/0123456789ab/sha256:abcde' });
});
