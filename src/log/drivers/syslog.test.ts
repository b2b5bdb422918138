import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';

import { Authority } from '../../../test/support/certificates.ts';
import { NEVER, entries, open, directory, streamService, udpService } from '../../../test/support/log-services.ts';
import type { DriverHost } from './driver.ts';

test('syslog: the three formats, over udp and tcp, with the time and the severity of the line', async (t) => {
  const { port, next } = await udpService(t);
  const options = {
    'syslog-address': `udp://127.0.0.1:${port}`,
    'syslog-format': 'rfc5424micro',
    tag: '{{.Name}}',
    'syslog-facility': 'local3',
  };
  await open(t, 'syslog', options).send(entries('one\n', 'two\n'), NEVER);
  const time = (await next()).toString();
  assert.match(
    time,
    new RegExp(`^<158>1 2026-11-22T\\d\\d:\\d\\d:03\\.004005\\S* host1 web ${process.pid} web - one\n$`),
  );
  assert.match((await next()).toString(), /^<155>1 \S+ host1 web \d+ web - two\n$/);

  const tcp = await streamService(t);
  await open(t, 'syslog', { 'syslog-address': `tcp://127.0.0.1:${tcp.port}`, 'syslog-format': 'rfc3164' }).send(
    entries('one\n', 'two'),
    NEVER,
  );
  await tcp.until(90);
  assert.match(
    tcp.got().toString(),
    new RegExp(`^<30>Nov 2\\d \\d\\d:\\d\\d:03 host1 abcdef012345\\[${process.pid}\\]: one\n<27>.* two\n$`),
  );

  const path = join(directory(t), 's.sock');
  const unix = await streamService(t, { path });
  await open(t, 'syslog', { 'syslog-address': `unix://${path}` }).send(entries('x\n'), NEVER);
  await unix.until(40);
  assert.match(unix.got().toString(), /^<30>Nov .* host1 abcdef012345\[\d+\]: x\n$/);
});

test('syslog: a datagram socket that is full takes a part, and the rest follows; one that stays full fails the rest', async (t) => {
  const path = join(directory(t), 's.sock');
  await streamService(t, { path }); // only to be there
  const taken: string[] = [];
  let [room, atOnce] = [5, 2];
  const sendDatagrams: DriverHost['sendDatagrams'] = async (_path, messages) => {
    const some = messages.slice(0, Math.min(room, atOnce));
    room -= some.length;
    taken.push(...some.map((message) => Buffer.from(message).toString().trim().split(' ').at(-1) as string));
    return some.length;
  };
  const destination = open(t, 'syslog', { 'syslog-address': `unixgram://${path}` }, { sendDatagrams });
  const batch = entries('1\n', '2\n', '3\n', '4\n', '5\n', '6\n');
  await assert.rejects(destination.send(batch, NEVER), /does not take more for now/);
  assert.equal(taken.length, 5);
  room = 9;
  await destination.send(batch, NEVER);
  assert.deepEqual(taken, ['1', '2', '3', '4', '5', '6']);
});

test('syslog: over TLS by an own authority, with a certificate of ours; who is not trusted gets nothing', async (t) => {
  const path = directory(t);
  const [authority, stranger] = [new Authority(path), new Authority(path, 'stranger')];
  const server = authority.issue('server', ['IP:127.0.0.1', 'DNS:localhost']);
  const client = authority.issue('client', ['DNS:client']);
  const { cert, key } = server;
  const service = await streamService(t, {
    tls: { cert, key, ca: authority.own.cert, requestCert: true, rejectUnauthorized: true, minVersion: 'TLSv1.2' },
  });
  const address = {
    'syslog-address': `tcp+tls://127.0.0.1:${service.port}`,
    'syslog-format': 'rfc5424',
    'syslog-tls-cert': client.certPath,
    'syslog-tls-key': client.keyPath,
  };
  const trusting = { ...address, 'syslog-tls-ca-cert': authority.own.certPath };
  await open(t, 'syslog', trusting).send(entries('one\n', 'two\n'), NEVER);
  await service.until(120);
  // RFC 5425: each message with its length in front.
  assert.match(service.got().toString(), /^(\d+) <30>1 \S+ host1 \S+ \d+ \S+ - one\n\d+ <27>1 .* - two\n$/);
  const [length = ''] = service.got().toString().split(' ', 1);
  assert.equal(service.got().indexOf('\n') + 1, length.length + 1 + Number(length));

  const before = service.got().length;
  const strange = { ...address, 'syslog-tls-ca-cert': stranger.own.certPath };
  await assert.rejects(open(t, 'syslog', strange).send(entries('x\n'), NEVER), /certificate|self.signed/i);
  const { 'syslog-tls-cert': _cert, 'syslog-tls-key': _key, ...bare } = trusting;
  const unknown = open(t, 'syslog', bare); // TLS 1.3: told after the handshake, so the connection breaks
  await unknown.send(entries('x\n'), NEVER).catch(() => {});
  while (!unknown.isBroken) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(service.got().length, before);
  const skipping = { ...strange, 'syslog-tls-skip-verify': 'true' };
  await open(t, 'syslog', skipping).send(entries('three\n'), NEVER);
  await service.until(before + 50);
  assert.match(service.got().toString().slice(before), / - three\n$/);
});
