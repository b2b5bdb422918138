import assert from 'node:assert/strict';
import { gunzipSync, inflateSync } from 'node:zlib';
import { test } from 'node:test';

import { ID, NEVER, entries, open, streamService, udpService } from '../../../test/support/log-services.ts';

test('StreamConnection: a service that is gone is an error, and found again when it is back', async (t) => {
  const service = await streamService(t);
  const destination = open(t, 'gelf', { 'gelf-address': `tcp://127.0.0.1:${service.port}` });
  await destination.send(entries('a\n'), NEVER);
  await service.until(10);
  const before = service.got().length;
  for (const socket of service.sockets) socket.destroy();
  while (!destination.isBroken) await new Promise((resolve) => setImmediate(resolve));
  await destination.send(entries('b\n'), NEVER);
  assert.equal(destination.isBroken, false);
  await service.until(before + 10);
});

test('gelf: over tcp NUL-terminated, over udp compressed and in chunks', async (t) => {
  const tcp = await streamService(t);
  await open(t, 'gelf', { 'gelf-address': `tcp://127.0.0.1:${tcp.port}`, labels: 'team', env: 'STAGE' }).send(
    entries('a\n', 'b\n'),
    NEVER,
  );
  while (tcp.got().filter((byte) => byte === 0).length < 2) await tcp.until(tcp.got().length + 1);
  const [first] = tcp.got().toString().split('\0');
  assert.deepEqual(JSON.parse(first as string), {
    version: '1.1', host: 'host1', short_message: 'a', timestamp: Date.parse('2026-11-22T01:02:03.004Z') / 1000, level: 6,
    _command: 'sh -c x', _container_id: ID, _container_name: 'web', _created: '2026-11-22T00:00:00Z', _image_id: 'sha256:1',
    _image_name: 'bb:1', _tag: 'abcdef012345', _team: 'a', _STAGE: 'test',
  }); // prettier-ignore

  const { port, next } = await udpService(t);
  const address = { 'gelf-address': `udp://127.0.0.1:${port}` };
  await open(t, 'gelf', address).send(entries('x\n'), NEVER);
  assert.equal(JSON.parse(gunzipSync(await next()).toString()).short_message, 'x');
  await open(t, 'gelf', { ...address, 'gelf-compression-type': 'zlib' }).send(entries('y\n'), NEVER);
  assert.equal(JSON.parse(inflateSync(await next()).toString()).short_message, 'y');
  const long = 'z'.repeat(16_384);
  await open(t, 'gelf', { ...address, 'gelf-compression-type': 'none' }).send(entries(long), NEVER);
  const chunks = [await next()];
  while (chunks.length < (chunks[0]?.[11] ?? 0)) chunks.push(await next());
  assert(
    chunks.length > 10 &&
      chunks.every((chunk, i) => chunk.length <= 1420 && chunk[0] === 0x1e && chunk[1] === 0x0f && chunk[10] === i),
  );
  assert.equal(JSON.parse(Buffer.concat(chunks.map((chunk) => chunk.subarray(12))).toString()).short_message, long);
});
