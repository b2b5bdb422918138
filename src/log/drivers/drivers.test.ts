import assert from 'node:assert/strict';
import { test } from 'node:test';

import { EngineError } from '../../core/engine-error.ts';
import { checkLogOptions, parseLogOptions } from '../log-options.ts';
import { SERVICE_DRIVERS } from './drivers.ts';

const refusalOf = (driver: string, options: Record<string, string>): string => {
  try {
    checkLogOptions({ driver, options }, { driver: 'json-file', options: {} });
  } catch (error) {
    assert(error instanceof EngineError);
    return error.message;
  }
  return '';
};

test('LogDriver.check: Docker’s words for what is wrong', () => {
  const gelf = { 'gelf-address': 'udp://h:1' };
  const splunk = { 'splunk-url': 'http://h:1', 'splunk-token': 't' };
  const aws = { 'awslogs-group': 'g' };
  const table: [string, Record<string, string>, string][] = [
    ['syslog', { x: '1' }, "unknown log opt 'x' for syslog log driver"],
    ['syslog', { 'max-size': '1m' }, "unknown log opt 'max-size' for syslog log driver"],
    ['syslog', { 'syslog-address': 'h:1' }, 'syslog-address should be in form proto://address, got h:1'],
    ['syslog', { 'syslog-address': 'unix:///no/such' }, 'stat /no/such: no such file or directory'],
    ['syslog', { 'syslog-facility': 'x' }, 'invalid syslog facility'],
    ['syslog', { 'syslog-facility': '24' }, 'invalid syslog facility'],
    ['syslog', { 'syslog-format': 'x' }, 'Invalid syslog format'],
    ['gelf', {}, 'gelf-address is a required parameter'],
    ['gelf', { ...gelf, x: '1' }, 'unknown log opt "x" for gelf log driver'],
    ['gelf', { 'gelf-address': 'http://h:1' }, 'gelf-address should be in form proto://address, got http://h:1'],
    ['gelf', { 'gelf-address': 'unix:///h' }, 'gelf: endpoint needs to be TCP or UDP'],
    ['gelf', { 'gelf-address': 'udp://h' }, 'gelf: please provide gelf-address as proto://host:port'],
    [
      'gelf',
      { ...gelf, 'gelf-compression-type': 'x' },
      'unknown value "x" for log opt "gelf-compression-type" for gelf log driver',
    ],
    ['gelf', { ...gelf, 'gelf-tcp-max-reconnect': '1' }, '"gelf-tcp-max-reconnect" is only valid for TCP'],
    ['fluentd', { x: '1' }, "unknown log opt 'x' for fluentd log driver"],
    ['fluentd', { 'fluentd-retry-wait': 'x' }, 'time: invalid duration "x"'],
    ['fluentd', { 'fluentd-async': 'x' }, 'strconv.ParseBool: parsing "x": invalid syntax'],
    ['splunk', {}, 'failed to initialize logging driver: splunk: splunk-url is expected'],
    ['splunk', { 'splunk-url': 'http://h:1' }, 'failed to initialize logging driver: splunk: splunk-token is expected'],
    ['splunk', { ...splunk, x: '1' }, "unknown log opt 'x' for splunk log driver"],
    [
      'splunk',
      { ...splunk, 'splunk-url': 'http://h/x' },
      'failed to initialize logging driver: splunk: expected format scheme://dns_name_or_ip:port for splunk-url',
    ],
    ['awslogs', {}, "must specify a value for log opt 'awslogs-group'"],
    ['awslogs', { x: '1', 'awslogs-group': 'g' }, "unknown log opt 'x' for awslogs log driver"],
    [
      'awslogs',
      { ...aws, 'awslogs-max-buffered-events': '0' },
      "must specify a positive integer for log opt 'awslogs-max-buffered-events': 0",
    ],
    [
      'awslogs',
      { ...aws, 'awslogs-create-group': 'x' },
      `must specify valid value for log opt 'awslogs-create-group': strconv.ParseBool: parsing "x": invalid syntax`,
    ],
    [
      'awslogs',
      { ...aws, 'awslogs-multiline-pattern': 'x', 'awslogs-datetime-format': '%Y' },
      "you cannot configure log opt 'awslogs-datetime-format' and 'awslogs-multiline-pattern' at the same time",
    ],
    ['awslogs', { ...aws, 'awslogs-format': 'x' }, "unsupported log format 'x'"],
    [
      'awslogs',
      { ...aws, 'awslogs-format': 'json/emf', 'awslogs-datetime-format': '%Y' },
      "you cannot configure log opt 'awslogs-datetime-format' or 'awslogs-multiline-pattern' when log opt 'awslogs-format' is set to 'json/emf'",
    ],
    [
      'awslogs',
      { ...aws, 'awslogs-multiline-pattern': '(' },
      'failed to initialize logging driver: awslogs could not parse multiline pattern key "(": error parsing regexp: missing closing ): `(`',
    ],
    [
      'syslog',
      { 'syslog-address': 'tcp+tls://h:1', 'syslog-tls-ca-cert': '/no/ca' },
      'failed to initialize logging driver: could not read CA certificate "/no/ca": open /no/ca: no such file or directory',
    ],
    [
      'syslog',
      { 'syslog-address': 'tcp+tls://h:1', 'syslog-tls-key': '/no/k' },
      'failed to initialize logging driver: could not load X509 key pair: open /no/k: no such file or directory',
    ],
    ['fluentd', { 'fluentd-address': '://' }, 'invalid fluentd-address (://): parse "://": missing protocol scheme'],
    ['fluentd', { 'fluentd-address': 'udp://' }, "invalid fluentd-address (udp://): unsupported scheme: 'udp'"],
    ['fluentd', { 'fluentd-address': 'unix://' }, 'invalid fluentd-address (unix://): path is empty'],
    ['fluentd', { 'fluentd-address': 'h:1/x' }, 'invalid fluentd-address (h:1/x): should not contain a path element'],
    [
      'fluentd',
      { 'fluentd-address': 'tcp://h:65536' },
      'invalid fluentd-address (tcp://h:65536): invalid port: strconv.ParseUint: parsing "65536": value out of range',
    ],
    [
      'fluentd',
      { 'fluentd-address': 'h:c' },
      'invalid fluentd-address (h:c): parse "h:c": invalid port ":c" after host',
    ],
    [
      'fluentd',
      { 'fluentd-async-reconnect-interval': '11s' },
      'invalid value for fluentd-async-reconnect-interval: value ("11s") must be between 100ms and 10s',
    ],
    [
      'fluentd',
      { 'fluentd-async-reconnect-interval': '1' },
      'invalid value for fluentd-async-reconnect-interval: time: missing unit in duration "1"',
    ],
    [
      'fluentd',
      { 'fluentd-write-timeout': '-1s' },
      'invalid value for fluentd-write-timeout: value must be a duration that is non-negative',
    ],
    ['fluentd', { 'fluentd-max-retries': '4294967295' }, 'invalid fluentd-max-retries: value out of range'],
    [
      'fluentd',
      { 'env-regex': '(?=x)' },
      'failed to initialize logging driver: error parsing regexp: invalid or unsupported Perl syntax: `(?=`',
    ],
    [
      'syslog',
      { 'cache-max-file': '1', 'cache-compress': 'true' },
      'failed to initialize logging driver: compression cannot be enabled when max file count is 1',
    ],
    [
      'local',
      { 'max-size': 'x' },
      "failed to initialize logging driver: invalid value for max-size: x: invalid size: 'x'",
    ],
    [
      'local',
      { 'max-file': 'x' },
      'failed to initialize logging driver: invalid value for max-file: x: strconv.Atoi: parsing "x": invalid syntax',
    ],
    [
      'local',
      { compress: 'x' },
      'failed to initialize logging driver: error reading compress log option: strconv.ParseBool: parsing "x": invalid syntax',
    ],
    ['gcplogs', { x: '1' }, '"x" is not a valid option for the gcplogs driver'],
    ['syslog', { mode: 'x' }, 'logger: logging mode not supported: x'],
    [
      'syslog',
      { 'max-buffer-size': '1m' },
      "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
    ],
    ['syslog', { 'cache-disabled': 'x' }, 'invalid value for option cache-disabled: x'],
  ];
  assert.deepEqual(
    table.map(([driver, options]) => refusalOf(driver, options)),
    table.map(([, , message]) => message),
  );
  assert.equal(
    refusalOf('syslog', {
      mode: 'non-blocking',
      'max-buffer-size': '4m',
      'cache-max-size': '1m',
      'cache-max-file': '2',
    }),
    '',
  );
});

test('parseLogOptions: the buffer of a service is a bounded local file, readable unless asked otherwise', () => {
  const parse = (options: Record<string, string>): unknown => {
    const { file, isReadable } = parseLogOptions({ driver: 'syslog', options }, { driver: '', options: {} });
    return { file, isReadable };
  };
  assert.deepEqual(parse({}), { file: { maxSizeBytes: 20_000_000, maxFiles: 5 }, isReadable: true });
  assert.deepEqual(parse({ 'cache-compress': 'true', 'cache-max-size': '2k' }), {
    file: { maxSizeBytes: 2000, maxFiles: 5 },
    isReadable: true,
  });
  assert.deepEqual(parse({ 'cache-max-size': '1m', 'cache-max-file': '2', 'cache-disabled': 'true' }), {
    file: { maxSizeBytes: 1_000_000, maxFiles: 2 },
    isReadable: false,
  });
});

test('parseLogOptions: addresses of fluentd that Docker takes', () => {
  for (const address of [
    '',
    '192.168.1.1',
    '[::1]',
    '[::1]:1',
    'h:',
    'h:65535',
    'tcp://',
    'tls://h:1',
    'unix:///s.sock:80',
  ])
    assert.equal(refusalOf('fluentd', { 'fluentd-address': address }), '', address);
});

test('SERVICE_DRIVERS: every driver that Docker has for a service', () => {
  assert.deepEqual([...SERVICE_DRIVERS.keys()].toSorted(), [
    'awslogs',
    'fluentd',
    'gcplogs',
    'gelf',
    'journald',
    'splunk',
    'syslog',
  ]);
});
