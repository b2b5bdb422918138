/** Garbage on the shim's socket: it must neither crash nor disturb the container. LONGSHORE_TEST_SHIM: a sanitizer build. */
import assert from 'node:assert/strict';
import { createConnection } from 'node:net';
import { after, before, test } from 'node:test';

import fc from 'fast-check';

import { demultiplex, readAll, ShimFixture } from './fixture.ts';
import {
  encodeFrame,
  encodeHelloAttach,
  encodeHelloControl,
  encodeHelloExec,
  encodeLogCompressed,
  encodeResize,
  encodeSignal,
} from './protocol.ts';

const RUNS = 300;
/** On demand: as many runs as fit into it. */
const FUZZ_S = Number(process.env['LONGSHORE_FUZZ_S'] ?? 0);

let fixture: ShimFixture;

before(() => {
  fixture = new ShimFixture();
});

after(async () => {
  const left = await fixture.settledLeftovers();
  fixture[Symbol.dispose]();
  assert.deepEqual(left, []);
});

/** Frames that are right, wrong, cut short and lying about their length, in any order. Never a deadly signal. */
const bytesToSend = fc.array(
  fc.oneof(
    fc.uint8Array({ maxLength: 64 }),
    fc.constantFrom(
      encodeHelloControl(),
      encodeHelloAttach(7),
      encodeHelloAttach(0),
      encodeHelloAttach(255),
      encodeFrame('stdin-eof'),
    ),
    fc.uint8Array({ maxLength: 300 }).map((data) => encodeFrame('stdin', data)),
    fc.tuple(fc.nat(70000), fc.nat(70000), fc.string()).map(([rows, columns, id]) => encodeResize(rows, columns, id)),
    fc.tuple(fc.constantFrom(0, 18, 28, 65, 255), fc.string()).map(([signal, id]) => encodeSignal(signal, id)),
    fc.uint8Array({ maxLength: 40 }).map((data) => encodeFrame('hello-exec', data)),
    fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map((inode) => encodeLogCompressed(inode)),
    fc.constantFrom('/nope', '/etc/hostname', '/dev/null/x').map((processFile) =>
      encodeHelloExec({
        execId: 'x',
        processFile: processFile.replace('/etc/hostname', '/tmp/none'),
        tty: false,
        stdin: true,
        mask: 7,
        rows: 1,
        columns: 1,
      }),
    ),
    fc.tuple(fc.nat(255), fc.nat(255), fc.nat(2 ** 32 - 1)).map(([type, pad, length]) => {
      const header = Buffer.from([type, pad, 0, 0, 0, 0, 0, 0]);
      header.writeUInt32BE(length, 4);
      return header;
    }),
  ),
  { maxLength: 8 },
);

function sendAndLeave(path: string, pieces: readonly Uint8Array[]): Promise<void> {
  return new Promise((resolve) => {
    const socket = createConnection(path);
    socket.on('error', () => {});
    socket.on('close', () => resolve());
    socket.on('data', () => {});
    socket.end(Buffer.concat(pieces));
    setTimeout(() => socket.destroy(), 20).unref();
  });
}

test('shim: random clients cannot crash it, and the container does not notice', async () => {
  const container = fixture.container({
    args: ['sh', '-c', 'while read x; do [ "$x" = finish-it ] && break; done; echo whole; exit 21'],
  });
  const { connection, streams } = await container.start({ stdin: 'open', attachMasks: [2] });
  const path = `${container.stateDir}/shim.sock`;
  await fc.assert(
    fc.asyncProperty(fc.array(bytesToSend, { minLength: 4, maxLength: 8 }), async (clients) => {
      await Promise.all(clients.map((pieces) => sendAndLeave(path, pieces)));
    }),
    FUZZ_S > 0 ? { numRuns: 1e9, interruptAfterTimeLimit: FUZZ_S * 1000 } : { numRuns: Math.ceil(RUNS / 6) },
  );
  const last = await connection.attach(1);
  last.write('\nfinish-it\n');
  assert.equal(String(demultiplex(await readAll(streams[0]!)).stdout), 'whole\n');
  assert.equal((await container.event('exited')).exit.code, 21);
  last.destroy();
  await container.event('released');
});

test('shim: more attached clients than it takes are closed, and the rest work', async () => {
  const container = fixture.container({
    args: ['sh', '-c', 'trap "echo bye; exit 0" TERM; echo up; while :; do sleep 0.05; done'],
  });
  const {
    connection,
    streams: [first],
  } = await container.start({ attachMasks: [2] });
  await new Promise((resolve) => first!.once('readable', resolve)); // the trap is set
  const streams = await Promise.all(Array.from({ length: 79 }, () => connection.attach(2)));
  const outputs = streams.map(readAll);
  connection.signal(15);
  const texts = (await Promise.all(outputs)).map((output) => String(demultiplex(output).stdout));
  assert.deepEqual(
    [texts.filter((text) => text === 'bye\n').length, texts.filter((text) => text === '').length],
    [63, 16],
  );
  assert.equal(String(demultiplex(await readAll(first!)).stdout), 'up\nbye\n');
  await container.event('released');
});
