/**
 * The shim with real runtimes: exits, output, terminals, stdin, OOM, recovery. Needs root, crun, runc, busybox. One piece
 * over 500 lines, because what shims leave is looked at once, after all of it.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { connectShim, readInitPid, readShimExit, readShimProcess, ShimRuntimeError } from './client.ts';
import type { RuntimeName } from './fixture.ts';
import { demultiplex, EXEC_CONSOLE_SIZE, readAll, ShimFixture } from './fixture.ts';

const MIB = 1024 * 1024;
const RUNTIMES: RuntimeName[] = ['crun', 'runc'];

let fixture: ShimFixture;

before(() => {
  fixture = new ShimFixture();
});

after(async () => {
  const left = await fixture.settledLeftovers();
  fixture[Symbol.dispose]();
  assert.deepEqual(left, []);
});

interface LogLine {
  log: string;
  stream: string;
  time: string;
  attrs?: Record<string, string>;
}

function readLog(path: string): LogLine[] {
  return readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as LogLine);
}

for (const runtime of RUNTIMES) {
  test(`spawnShim: ${runtime} reports pid, exit code, record and release in order`, async () => {
    const container = fixture.container({ args: ['sh', '-c', 'echo out; echo err >&2; exit 3'], runtime });
    const { pid, streams, startedAt } = await container.start({ attachMasks: [7] });
    assert.ok(pid > 1);
    assert.match(startedAt, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$/);
    const output = demultiplex(await readAll(streams[0]!));
    assert.deepEqual([String(output.stdout), String(output.stderr)], ['out\n', 'err\n']);
    const exited = await container.event('exited');
    assert.deepEqual(
      [exited.pid, exited.exit.code, exited.exit.signal, exited.exit.oomKilled, exited.recorded],
      [pid, 3, 0, false, true],
    );
    assert.deepEqual(await readShimExit(container.stateDir), { run: 1, pid, startedAt, exit: exited.exit });
    await container.event('released');
    assert.deepEqual(
      container.events.map((event) => event.kind),
      ['exited', 'released'],
    );
    assert.deepEqual(readdirSync(container.stateDir), ['exit.json']);
    assert.deepEqual(Object.fromEntries(readLog(container.logPath).map((line) => [line.stream, line.log])), {
      stdout: 'out\n',
      stderr: 'err\n',
    });
  });

  test(`signal: ${runtime} ends by SIGKILL with 137`, async () => {
    const container = fixture.container({ args: ['sleep', '1000'], runtime });
    const { connection } = await container.start();
    connection.signal(9);
    const { exit } = await container.event('exited');
    assert.deepEqual([exit.code, exit.signal, exit.oomKilled], [137, 9, false]);
    await container.event('released');
  });

  test(`spawnShim: ${runtime} hands back why a start failed and leaves nothing`, async () => {
    const cases: [string[], RegExp][] = [
      [['nope'], /not found/],
      [['/bin/not-executable'], /[Pp]ermission denied/],
    ];
    for (const [args, words] of cases) {
      for (const tty of [false, true]) {
        const container = fixture.container({ args, runtime, tty });
        await assert.rejects(container.start({ attachMasks: [7] }), (error) => {
          assert.ok(error instanceof ShimRuntimeError);
          assert.match(error.message, words);
          assert.ok(error.text.includes('"level":"error"'), error.text);
          assert.equal(error.status, 1);
          return true;
        });
        assert.deepEqual(readdirSync(container.stateDir), []);
        assert.equal(readFileSync(container.logPath, 'utf8'), '');
      }
    }
  });

  test(`exec: ${runtime} gives output, exit code, error text, terminal, detached`, async () => {
    const container = fixture.container({ args: ['sleep', '1000'], runtime });
    const { connection } = await container.start();
    const exec = (execId: string, args: string[], options: { tty?: boolean; stdin?: boolean; mask?: number } = {}) =>
      connection.exec({
        execId,
        processFile: fixture.processFile(container, execId, args, options.tty),
        tty: options.tty ?? false,
        stdin: options.stdin ?? false,
        mask: options.mask ?? 6,
        consoleSize: EXEC_CONSOLE_SIZE,
      });
    const plain = await exec('plain', ['sh', '-c', 'echo out; echo err >&2; exit 7']);
    const output = demultiplex(await readAll(plain.stream!));
    assert.deepEqual([String(output.stdout), String(output.stderr)], ['out\n', 'err\n']);
    assert.deepEqual(await container.event('exec-exited'), { kind: 'exec-exited', execId: 'plain', exitCode: 7 });

    await assert.rejects(
      exec('missing', ['nope']),
      (error) => error instanceof ShimRuntimeError && /not found/.test(error.message),
    );
    await assert.rejects(
      exec('denied', ['/bin/not-executable']),
      (error) => error instanceof ShimRuntimeError && /[Pp]ermission denied/.test(error.message),
    );

    // A runtime hands the terminal over while the process may run already: its size comes a moment later.
    const script = 'until size=$(stty size 2>/dev/null) && [ "$size" ]; do :; done; echo $size; exit 4';
    const terminal = await exec('terminal', ['sh', '-c', script], { tty: true, mask: 7 });
    assert.equal(String(await readAll(terminal.stream!)), '33 77\r\n');
    assert.deepEqual(await container.event('exec-exited', 2), { kind: 'exec-exited', execId: 'terminal', exitCode: 4 });

    const piped = await exec('piped', ['cat'], { stdin: true, mask: 7 });
    piped.stream!.end('through cat');
    assert.equal(String(demultiplex(await readAll(piped.stream!)).stdout), 'through cat');
    await container.event('exec-exited', 3);

    const detached = await exec('detached', ['sh', '-c', 'exit 9'], { mask: 0 });
    assert.equal(detached.stream, null);
    assert.deepEqual(await container.event('exec-exited', 4), { kind: 'exec-exited', execId: 'detached', exitCode: 9 });

    const killed = await exec('killed', ['sleep', '1000'], { mask: 0 });
    assert.ok(killed.pid > 1);
    connection.signal(15, 'killed');
    assert.deepEqual(await container.event('exec-exited', 5), { kind: 'exec-exited', execId: 'killed', exitCode: 143 });
    assert.deepEqual(readdirSync(container.stateDir).toSorted(), ['init.pid', 'shim.pid', 'shim.sock']);
    connection.signal(9);
    await container.event('released');
  });
}

test('exec: twenty at once overlap and each has its own output and code', async () => {
  const container = fixture.container({ args: ['sleep', '1000'] });
  const { connection } = await container.start();
  // Each waits for all: one after the other, none would end.
  const meet = 'echo >>/tmp/began; until [ "$(wc -l </tmp/began)" -ge 20 ]; do sleep 0.3; done';
  await Promise.all(
    Array.from({ length: 20 }, async (_, index) => {
      const execId = `e${index}`;
      const processFile = fixture.processFile(container, execId, ['sh', '-c', `${meet}; echo ${index}; exit ${index}`]);
      const { stream } = await connection.exec({
        execId,
        processFile,
        tty: false,
        stdin: false,
        mask: 6,
        consoleSize: [0, 0],
      });
      assert.equal(String(demultiplex(await readAll(stream!)).stdout), `${index}\n`);
    }),
  );
  await container.event('exec-exited', 20);
  const codes = container.events.flatMap((event) =>
    event.kind === 'exec-exited' ? [[event.execId, event.exitCode]] : [],
  );
  assert.deepEqual(
    Object.fromEntries(codes),
    Object.fromEntries(Array.from({ length: 20 }, (_, index) => [`e${index}`, index])),
  );
  connection.signal(9);
  await container.event('released');
});

test('exec: ends with its container, its exit told before the container', async () => {
  const container = fixture.container({ args: ['sleep', '1000'] });
  const { connection } = await container.start();
  const processFile = fixture.processFile(container, 'long', ['sleep', '1000']);
  const { stream } = await connection.exec({
    execId: 'long',
    processFile,
    tty: false,
    stdin: false,
    mask: 6,
    consoleSize: [0, 0],
  });
  connection.signal(9);
  await readAll(stream!);
  await container.event('released');
  assert.deepEqual(
    container.events.map((event) => event.kind),
    ['exec-exited', 'exited', 'released'],
  );
});

test('attach: 10 MB of binary output are whole, in the stream and in the log', async () => {
  const container = fixture.container({
    args: ['sh', '-c', 'head -c 10485760 /dev/urandom | tee /tmp/x; sha256sum < /tmp/x >&2'],
  });
  const { streams } = await container.start({ attachMasks: [6, 2] });
  const [both, outOnly] = await Promise.all(streams.map(readAll));
  const output = demultiplex(both!);
  assert.equal(output.stdout.length, 10 * MIB);
  assert.equal(createHash('sha256').update(output.stdout).digest('hex'), String(output.stderr).slice(0, 64));
  assert.deepEqual(demultiplex(outOnly!).stdout, output.stdout);
  await container.event('released');
  const text = readLog(container.logPath)
    .flatMap((line) => (line.stream === 'stdout' ? [line.log] : []))
    .join('');
  const firstLines = output.stdout.subarray(0, output.stdout.lastIndexOf(10, MIB) + 1);
  assert.ok(text.startsWith(goString(firstLines)), 'the log differs from the output');
});

/** Text as Go's JSON of the log's pieces shows it: lines cut at 16 KiB, each invalid byte U+FFFD. */
function goString(bytes: Buffer): string {
  const decoder = (piece: Buffer): string => {
    let text = '';
    for (let at = 0; at < piece.length;) {
      const size = validUtf8(piece, at);
      text += size === 0 ? '\ufffd' : piece.toString('utf8', at, at + size);
      at += size || 1;
    }
    return text;
  };
  let text = '';
  for (let at = 0; at < bytes.length;) {
    const newline = bytes.indexOf(10, at);
    const end = Math.min(newline < 0 ? bytes.length : newline + 1, at + 16384);
    text += decoder(bytes.subarray(at, end));
    at = end;
  }
  return text;
}

function validUtf8(bytes: Buffer, at: number): number {
  if (bytes[at]! < 0x80) return 1;
  for (const size of [2, 3, 4]) {
    const piece = bytes.subarray(at, at + size);
    if (
      piece.length === size &&
      Buffer.from(piece.toString('utf8')).equals(piece) &&
      piece.toString('utf8').length === (size === 4 ? 2 : 1)
    )
      return size;
  }
  return 0;
}

test('attach: a terminal has its size before the first byte, follows resize, and is raw', async () => {
  for (const runtime of RUNTIMES) {
    const container = fixture.container({
      args: ['sh', '-c', 'stty size; read x; stty size; exit 5'],
      tty: true,
      consoleSize: [41, 123],
      runtime,
    });
    const { streams, connection } = await container.start({ attachMasks: [7], stdin: 'open' });
    const output = readAll(streams[0]!);
    while (readLog(container.logPath).length === 0) await sleep(20);
    connection.resize(10, 20);
    await sleep(50);
    streams[0]!.write('go\n');
    assert.equal(String(await output), '41 123\r\ngo\r\n10 20\r\n');
    assert.equal((await container.event('exited')).exit.code, 5);
    await container.event('released');
    assert.deepEqual(readLog(container.logPath).map((line) => [line.stream, line.log])[0], ['stdout', '41 123\r\n']);
  }
});

test('stdin: "once" closes with its first client, by EOF or by going away', async () => {
  for (const leave of ['end', 'destroy'] as const) {
    const container = fixture.container({ args: ['sh', '-c', 'cat; echo closed'] });
    const { streams } = await container.start({ attachMasks: [7, 2], stdin: 'once' });
    const output = readAll(streams[1]!);
    if (leave === 'end') streams[0]!.resume();
    streams[0]!.write('data\n', () => streams[0]![leave]());
    assert.equal(String(demultiplex(await output).stdout), 'data\nclosed\n');
    await container.event('released');
  }
});

test('stdin: "open" survives a client that ends it, and that client\'s attach is over', async () => {
  const container = fixture.container({ args: ['sh', '-c', 'read a; read b; echo $a-$b'] });
  const { streams, connection } = await container.start({ attachMasks: [7], stdin: 'open' });
  streams[0]!.end('first\n');
  assert.equal(String(await readAll(streams[0]!)), '');
  const second = await connection.attach(7);
  second.write('second\n');
  assert.equal(String(demultiplex(await readAll(second)).stdout), 'first-second\n');
  await container.event('released');
});

test('stdin: 8 MB pass whole to a container that reads late', async () => {
  const container = fixture.container({ args: ['sh', '-c', 'sleep 1; sha256sum'] });
  const { streams } = await container.start({ attachMasks: [7], stdin: 'once' });
  const data = Buffer.alloc(8 * MIB, 'some bytes that repeat, ');
  streams[0]!.end(data);
  const output = demultiplex(await readAll(streams[0]!));
  assert.equal(String(output.stdout).slice(0, 64), createHash('sha256').update(data).digest('hex'));
  await container.event('released');
});

test('attach: a stalled client is dropped after a while and holds up nobody for longer', async () => {
  const container = fixture.container({ args: ['sh', '-c', 'head -c 20000000 /dev/zero'] });
  const { streams } = await container.start({ attachMasks: [2, 2], stallMs: 500, log: null });
  const whole = demultiplex(await readAll(streams[1]!));
  assert.equal(whole.stdout.length, 20_000_000);
  await container.event('exited');
  const rest = await readAll(streams[0]!);
  assert.ok(rest.length < 20_000_000, 'the stalled client got all');
  await container.event('released');
});

test('attach: the only client stalls the container and loses nothing, even after the exit', async () => {
  const container = fixture.container({ args: ['sh', '-c', 'head -c 20000000 /dev/zero; sleep 0.2; echo end'] });
  const { streams } = await container.start({ attachMasks: [2], stallMs: 200 });
  await sleep(1000);
  assert.equal(container.events.length, 0);
  const output = demultiplex(await readAll(streams[0]!));
  assert.equal(output.stdout.length, 20_000_004);
  await container.event('released');
});

test('connectShim: after the daemon vanished a new one gets the state, the events and the output', async () => {
  const container = fixture.container({
    args: ['sh', '-c', 'i=0; while [ $i -lt 50 ]; do echo line $i; i=$((i+1)); sleep 0.02; done; exit 6'],
  });
  const first = await container.start({ run: 4 });
  const processFile = fixture.processFile(container, 'gone', ['sh', '-c', 'exit 2']);
  await first.connection.exec({ execId: 'gone', processFile, tty: false, stdin: false, mask: 0, consoleSize: [0, 0] });
  await container.event('exec-exited');
  const sleeping = fixture.processFile(container, 'there', ['sleep', '1000']);
  const there = await first.connection.exec({
    execId: 'there',
    processFile: sleeping,
    tty: false,
    stdin: false,
    mask: 0,
    consoleSize: [0, 0],
  });
  first.connection[Symbol.dispose]();
  const again = await connectShim(container.stateDir, container.onEvent);
  assert.deepEqual(again!.state, {
    id: container.id,
    run: 4,
    pid: first.pid,
    startedAt: first.startedAt,
    oomKilled: false,
    directExec: false,
    execs: [{ execId: 'there', pid: there.pid }],
    endedExecs: [{ execId: 'gone', exitCode: 2 }],
  });
  assert.deepEqual((await readShimProcess(container.stateDir))?.alive, true);
  assert.equal(await readInitPid(container.stateDir), first.pid);
  assert.equal((await container.event('exited')).exit.code, 6);
  await container.event('released');
  assert.deepEqual(
    readLog(container.logPath).map((line) => line.log),
    Array.from({ length: 50 }, (_, index) => `line ${index}\n`),
  );
  assert.equal(await connectShim(container.stateDir, container.onEvent), null);
  assert.equal(await readShimProcess(container.stateDir), null);
});

test('readShimExit: the exit is on record when no daemon was there', async () => {
  const container = fixture.container({ args: ['sh', '-c', 'sleep 0.3; exit 11'] });
  const { connection, pid } = await container.start();
  connection[Symbol.dispose]();
  let record = await readShimExit(container.stateDir);
  assert.equal(record, null);
  for (let wait = 0; record === null && wait < 50; wait++) {
    await sleep(50);
    record = await readShimExit(container.stateDir);
  }
  assert.deepEqual([record?.pid, record?.exit.code, record?.run], [pid, 11, 1]);
  for (let wait = 0; existsSync(join(container.stateDir, 'shim.pid')) && wait < 50; wait++) await sleep(50);
});

test('oom: told and flagged when init is killed, and when only a child is', async () => {
  const eat = 'exec tail /dev/zero';
  const cases: [string, number][] = [
    [eat, 137],
    [`sh -c '${eat}'; sleep 0.5; exit 8`, 8],
  ];
  for (const runtime of RUNTIMES) {
    for (const [script, code] of cases) {
      const container = fixture.container({ args: ['sh', '-c', script], memoryBytes: 16 * MIB, runtime });
      await container.start();
      const { exit } = await container.event('exited');
      assert.deepEqual([exit.code, exit.oomKilled], [code, true]);
      assert.deepEqual(container.events.map((event) => event.kind).slice(0, 2), ['oom', 'exited']);
      await container.event('released');
    }
  }
});

test('log: lines are as Docker writes them, with attributes', async () => {
  const text = '"\\\\ <&> \\t\\001 \\303\\244 \\342\\200\\250 \\377x \\r';
  const container = fixture.container({ args: ['sh', '-c', `printf '${text}\\n\\nrest'`] });
  await container.start({
    log: { path: container.logPath, maxSizeBytes: null, maxFiles: 1, attributes: { tag: '<x>', env: 'y' } },
  });
  await container.event('released');
  const lines = readFileSync(container.logPath, 'utf8')
    .replaceAll(/"time":"[^"]+Z"/g, '"time":"T"')
    .split('\n');
  const tail = '"stream":"stdout","attrs":{"env":"y","tag":"\\u003cx\\u003e"},"time":"T"}';
  assert.deepEqual(lines, [
    String.raw`{"log":"\"\\ \u003c\u0026\u003e \u0009\u0001 ä \u2028 \ufffdx \r\n",${tail}`,
    String.raw`{"log":"\n",${tail}`,
    String.raw`{"log":"rest",${tail}`,
    '',
  ]);
});

test('log: rotation keeps maxFiles files, none larger than asked, no line lost in between', async () => {
  const container = fixture.container({
    args: ['sh', '-c', 'i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done'],
  });
  await container.start({ log: { path: container.logPath, maxSizeBytes: 20_000, maxFiles: 3, attributes: {} } });
  await container.event('released');
  const paths = [2, 1, 0].map((n) => (n === 0 ? container.logPath : `${container.logPath}.${n}`));
  assert.ok(!existsSync(`${container.logPath}.3`));
  for (const path of paths) assert.ok(statSync(path).size <= 20_000);
  const numbers = paths.flatMap(readLog).map((line) => Number(line.log.slice(5)));
  assert.equal(numbers.at(-1), 1999);
  assert.deepEqual(
    numbers,
    Array.from(numbers, (_, index) => numbers[0]! + index),
  );
});

test('log: a full disk drops lines and says so, and the container runs on', async () => {
  const container = fixture.container({
    args: ['sh', '-c', 'i=0; while [ $i -lt 5000 ]; do echo some line of output $i; i=$((i+1)); done; exit 12'],
  });
  const small = join(fixture.directory, 'small');
  mkdirSync(small);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'shim-small', small]);
  try {
    const path = join(small, 'json.log');
    await container.start({ log: { path, maxSizeBytes: null, maxFiles: 1, attributes: {} } });
    assert.equal((await container.event('exited')).exit.code, 12);
    const dropped = container.events.reduce((sum, event) => sum + (event.kind === 'log-dropped' ? event.bytes : 0), 0);
    assert.ok(dropped > 100_000, `${dropped}`);
    assert.ok(readLog(path).length > 100); // every line that is there is whole
    await container.event('released');
  } finally {
    execFileSync('umount', [small]);
  }
});

test('spawnShim: works with a state directory longer than a socket address', async () => {
  const container = fixture.container({ args: ['sh', '-c', 'read x; echo $x; exit 2'], tty: true });
  const stateDir = join(container.stateDir, 'd'.repeat(120));
  mkdirSync(stateDir, { mode: 0o700 });
  const { connection } = await container.start({ stateDir, stdin: 'open' });
  const stream = await connection.attach(7);
  stream.write('hello\n');
  assert.equal(String(await readAll(stream)), 'hello\r\nhello\r\n');
  await container.event('released');
  assert.deepEqual(readdirSync(stateDir), ['exit.json']);
  execFileSync('rm', ['-r', stateDir]);
});

test('spawnShim: a runtime that is killed fails the start, and what it started is undone', async () => {
  const container = fixture.container({ args: ['sleep', '1000'] });
  const slow = join(fixture.directory, 'slow-runtime');
  const said = join(fixture.directory, 'said');
  const script = `#!/bin/sh\ncase "$*" in *run*--detach*) echo half done >&2; : >${said}; exec sleep 100;; esac\n`;
  writeFileSync(slow, script, { mode: 0o755 });
  const starting = container.start({ runtimePath: slow });
  let found = null;
  while (found === null) {
    await sleep(20);
    found = existsSync(said) ? await connectShim(container.stateDir, container.onEvent) : null;
  }
  assert.equal(found.state.pid, 0);
  found.connection.signal(9);
  await assert.rejects(
    starting,
    (error) => error instanceof ShimRuntimeError && error.message === 'half done' && error.status === 137,
  );
  assert.equal((await container.event('failed')).status, 137);
  assert.deepEqual(readdirSync(container.stateDir), []);
});

test('spawnShim: a container that has the id already is refused and left alone', async () => {
  const container = fixture.container({ args: ['sh', '-c', 'read x; exit 33'] });
  const { connection } = await container.start({ stdin: 'open' });
  const second = join(container.stateDir, 'second');
  mkdirSync(second, { mode: 0o700 });
  await assert.rejects(container.start({ stateDir: second }), /already exists/);
  (await connection.attach(1)).end('go on\n');
  assert.equal((await container.event('exited')).exit.code, 33);
  await container.event('released');
  rmdirSync(second);
});

test('onClose: is called even when it is set after the shim has gone', async () => {
  const container = fixture.container({ args: ['true'] });
  const { connection } = await container.start();
  await container.event('released');
  await sleep(100);
  await new Promise<void>((resolve) => (connection.onClose = resolve));
});

test('exited: a process that keeps the output open delays it by two seconds at most', async () => {
  const container = fixture.container({ args: ['sh', '-c', 'setsid sleep 30 & echo started'], hostPid: true });
  const begin = performance.now();
  await container.start();
  await container.event('exited');
  const tookMs = performance.now() - begin;
  assert.ok(tookMs > 1900 && tookMs < 4000, `${tookMs}`);
  await container.event('released');
});
