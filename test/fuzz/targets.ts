/** What reads bytes that others write, each with what must hold for any of them. Throws when it does not. */
import assert from 'node:assert/strict';
import { isUtf8 } from 'node:buffer';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

import { DetachScanner } from '../../src/api/detach-keys.ts';
import { frame, FrameStripper } from '../../src/api/log-stream.ts';
import { EngineError } from '../../src/core/engine-error.ts';
import { CursorFile, START, type Cursor } from '../../src/log/cursor.ts';
import { CursorReader, partOf } from '../../src/log/cursor-reader.ts';
import { JsonLineParser, parseTimeNs } from '../../src/log/json-line.ts';
import { checkLogOptions } from '../../src/log/log-options.ts';
import type { LogEntry, LogFileOptions } from '../../src/log/port.ts';
import { readLog } from '../../src/log/read-log.ts';
import {
  LineReader,
  parseControlLine,
  parseExecAnswer,
  parseExitRecord,
  runtimeMessage,
} from '../../src/shim/protocol.ts';
import type { Random } from '../support/random.ts';
import { mutated, pieces, randomBytes } from './bytes.ts';

export interface Target {
  readonly name: string;
  readonly isSlow?: boolean;
  /** One input. */
  run(random: Random): void | Promise<void>;
}

const LINES = [
  '{"log":"plain\\n","stream":"stdout","time":"2026-11-22T01:02:03.004005006Z"}\n',
  '{"log":"\\u003c\\u2028\\ud83d\\ude00 é \\"x\\" \\\\ \\ufffd\\r\\n","stream":"stderr","time":"2026-11-22T01:02:03Z"}\n',
  '{"log":"piece","stream":"stdout","attrs":{"tag":"t","a":"b c"},"time":"2026-11-22T01:02:03.1Z"}\n',
  '{"stream":"stdout","log":"other order\\n","time":"2026-11-22T01:02:03+02:00"}\n',
].map((line) => Buffer.from(line));

/** What the scanner must agree with: JSON.parse on the line, as Docker's reader. null: not a line that anybody writes. */
function reference(line: Buffer): string | null {
  if (!isUtf8(line)) return null; // the scanner passes such bytes on, and writers have none
  let value: unknown;
  try {
    value = JSON.parse(line.toString('utf8'));
  } catch {
    return null;
  }
  const { log, stream, time } = (value ?? {}) as Readonly<Record<string, unknown>>;
  const isOne = typeof log === 'string' && (stream === 'stdout' || stream === 'stderr') && typeof time === 'string';
  return isOne && parseTimeNs(time) !== null ? `${stream}|${time}|${Buffer.from(log).toString('hex')}` : null;
}

const shown = (entry: LogEntry): string => `${entry.stream}|${entry.time}|${entry.line.toString('hex')}`;

function logBytes(random: Random): Buffer {
  const lines = Array.from({ length: random.below(12) }, () =>
    random.below(3) === 0 ? mutated(random, LINES) : Buffer.from(random.pick(LINES)),
  );
  return random.below(10) === 0 ? randomBytes(random, 400) : Buffer.concat(lines);
}

function parseAll(bytes: Buffer): LogEntry[] {
  const entries: LogEntry[] = [];
  new JsonLineParser().parse(Buffer.from(bytes), entries);
  return entries;
}

/** A scratch log for the targets that read files. */
class Scratch implements Disposable {
  readonly directory = mkdtempSync(join(tmpdir(), 'lsfuzz-'));
  readonly options: LogFileOptions = {
    path: join(this.directory, 'x-json.log'),
    maxSizeBytes: 1,
    maxFiles: 3,
    attributes: {},
  };
  [Symbol.dispose](): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}

const wholeLines = (bytes: Buffer): number => bytes.lastIndexOf(0x0a) + 1;

/** Lines are counted before anything is known of them. */
function tailOf(bytes: Buffer, count: number): string[] {
  let from = wholeLines(bytes);
  for (let i = 0; i < count && from > 0; i++) from = from === 1 ? 0 : bytes.lastIndexOf(0x0a, from - 2) + 1;
  return parseAll(bytes.subarray(from)).map(shown);
}

async function collect(file: LogFileOptions, tail: number | null): Promise<string[]> {
  const found: string[] = [];
  const signals = { signal: new AbortController().signal, ended: AbortSignal.abort() };
  const options = { stdout: true, stderr: true, sinceNs: null, untilNs: null, tail, follow: tail === null };
  for await (const batch of readLog(file, options, signals)) found.push(...batch.map(shown));
  return found;
}

const FIRST = ['old', 'newer'].map((log) =>
  Buffer.from(`{"log":"${log}\\n","stream":"stdout","time":"2026-11-22T01:02:03Z"}\n`),
);

const CONTROL = [
  '{"event":"state","run":1,"pid":5,"tty":false,"started_at":"2026-11-22T01:02:03Z","execs":[{"id":"a","pid":7}]}\n',
  '{"event":"started","pid":5,"at":"2026-11-22T01:02:03Z"}\n',
  '{"event":"exited","pid":5,"code":3,"signal":0,"oom":false,"at":"2026-11-22T01:02:03Z","recorded":true}\n',
  '{"event":"exec-exited","id":"x","code":1}\n{"pid":7}\n{"error":"no","status":1}\n',
  '{"level":"error","msg":"exec: \\"nope\\" not found"}\n',
].map((line) => Buffer.from(line));

export const TARGETS: readonly Target[] = [
  {
    name: 'json-file lines',
    run(random) {
      const bytes = logBytes(random);
      const entries = parseAll(bytes);
      let at = 0;
      for (const line of bytes.toString('latin1').split('\n').slice(0, -1)) {
        const expected = reference(Buffer.from(line, 'latin1'));
        if (expected !== null) {
          const found = entries.findIndex((entry, i) => i >= at && shown(entry) === expected);
          assert(found >= 0, `not read: ${line}`);
          at = found + 1;
        }
      }
    },
  },
  {
    name: 'log files, whole, by tail, and by cursor',
    isSlow: true,
    async run(random) {
      using scratch = new Scratch();
      const { path } = scratch.options;
      // First lines are what files are known by.
      const [old, newer] = FIRST.map((line) => Buffer.concat([line, logBytes(random)])) as [Buffer, Buffer];
      const isBroken = random.below(4) === 0;
      if (random.below(2) === 0) writeFileSync(`${path}.1`, old);
      else writeFileSync(`${path}.1.gz`, isBroken ? mutated(random, [gzipSync(old)]) : gzipSync(old));
      writeFileSync(path, newer);
      const all = await collect(scratch.options, null);
      const entries = parseAll(newer).map(shown);
      assert.deepEqual(all.slice(all.length - entries.length), entries);
      const tail = random.below(20);
      const last = await collect(scratch.options, tail);
      if (!isBroken) assert.deepEqual(last, tailOf(Buffer.concat([old.subarray(0, wholeLines(old)), newer]), tail));
      const cursor = join(scratch.directory, 'cursor');
      writeFileSync(cursor, mutated(random, [Buffer.from('0123456789abcdef {"signature":"x","offset":5}\n')]));
      assert.deepEqual(await new CursorFile(cursor).load(), START);
      await using reader = await CursorReader.open(scratch.options, START);
      const forwarded: string[] = [];
      let resumed: { readonly at: number; readonly cursor: Cursor } | null = null;
      for (let batch = await reader.next(); batch !== null; batch = await reader.next()) {
        const count = 1 + random.below(batch.entries.length);
        resumed = { at: forwarded.length + count, cursor: partOf(batch, 0, count).cursor };
        forwarded.push(...batch.entries.map(shown));
      }
      assert.deepEqual(forwarded.slice(forwarded.length - entries.length), entries);
      if (resumed === null || isBroken) return;
      await using again = await CursorReader.open(scratch.options, resumed.cursor);
      const rest: string[] = [];
      for (let batch = await again.next(); batch !== null; batch = await again.next())
        rest.push(...batch.entries.map(shown));
      assert.deepEqual(rest, forwarded.slice(resumed.at));
    },
  },
  {
    name: 'multiplexed frames',
    run(random) {
      const payloads = Array.from({ length: random.below(6) }, () => randomBytes(random, 40));
      const whole = Buffer.concat(payloads.map((payload) => frame(random.pick(['stdout', 'stderr']), payload)));
      const stripper = new FrameStripper();
      const out = Buffer.concat(pieces(random, whole).map((piece) => stripper.push(piece)));
      assert.deepEqual(out, Buffer.concat(payloads));
      const other = new FrameStripper();
      const garbage = mutated(random, [whole, randomBytes(random, 40)]);
      let given = 0;
      for (const piece of pieces(random, garbage)) given += other.push(piece).length;
      assert(given <= garbage.length);
    },
  },
  {
    name: 'the shim’s lines',
    run(random) {
      const bytes = Buffer.concat(Array.from({ length: 1 + random.below(5) }, () => mutated(random, CONTROL)));
      const [cut, whole] = [new LineReader(), new LineReader()];
      const lines = pieces(random, bytes).flatMap((piece) => cut.push(piece));
      assert.deepEqual(lines, whole.push(Buffer.from(bytes)));
      for (const line of lines) {
        const event = parseControlLine(line);
        if (event !== null) assert.equal(typeof event.kind, 'string');
        parseExecAnswer(line);
        parseExitRecord(line);
        assert.equal(typeof runtimeMessage(`${line}\n${line}`), 'string');
      }
    },
  },
  {
    name: 'detach keys',
    run(random) {
      const keys = Buffer.from(random.pick([[16, 17], [1], [27, 91, 65]]));
      const input = Buffer.from(Array.from({ length: random.below(40) }, () => random.pick([...keys, 97, 98, 16])));
      const at = input.indexOf(keys);
      const scanner = new DetachScanner(keys);
      const passed: Buffer[] = [];
      let isDetached = false;
      for (const piece of pieces(random, input)) {
        const result = scanner.push(piece);
        passed.push(result.pass);
        isDetached = result.detached;
        if (isDetached) break;
      }
      assert.equal(isDetached, at >= 0, `${input.toString('hex')} ${keys.toString('hex')}`);
      const out = Buffer.concat(passed);
      assert(input.subarray(0, out.length).equals(out), 'what passes is what was typed');
    },
  },
  {
    name: 'log options',
    run(random) {
      const text = (): string => mutated(random, VALUES).toString('latin1');
      const options = Object.fromEntries(
        Array.from({ length: 1 + random.below(3) }, () => [random.pick(NAMES), text()]),
      );
      try {
        checkLogOptions({ driver: random.pick(DRIVERS), options }, { driver: '', options: {} });
      } catch (error) {
        assert(error instanceof EngineError, String(error));
      }
    },
  },
];

const DRIVERS = ['json-file', 'local', 'syslog', 'gelf', 'fluentd', 'journald', 'splunk', 'awslogs', 'gcplogs'];
const NAMES = [
  'max-size', 'max-file', 'compress', 'mode', 'max-buffer-size', 'tag', 'labels-regex', 'env', 'cache-max-size',
  'syslog-address', 'syslog-format', 'gelf-address', 'fluentd-address', 'fluentd-retry-wait', 'splunk-url', 'splunk-token',
  'awslogs-group', 'awslogs-multiline-pattern', 'awslogs-datetime-format', 'awslogs-endpoint',
]; // prettier-ignore
const VALUES = [
  '10m', '3', 'true', 'non-blocking', '{{.Name}}/{{.ID}}', '^[a-z]+(x|y){2,3}$', 'tcp://127.0.0.1:514', 'unix:///s',
  'tcp+tls://[::1]:1', 'http://h:8088/', '1h2.5s', '%Y-%m-%d', '',
].map((value) => Buffer.from(value)); // prettier-ignore
