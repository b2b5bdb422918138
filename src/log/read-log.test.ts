import assert from 'node:assert/strict';
import { appendFileSync, existsSync, mkdtempSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { gzipSync } from 'node:zlib';

import fc from 'fast-check';

import type { LogReadOptions } from './port.ts';
import { readLog } from './read-log.ts';

const ALL: LogReadOptions = { stdout: true, stderr: true, sinceNs: null, untilNs: null, tail: null, follow: false };
const SECOND_NS = 1_000_000_000n;

/** A writer that rotates as the shim does: from the oldest, then the current file. */
class Writer implements Disposable {
  readonly directory = mkdtempSync(join(tmpdir(), 'log-test-'));
  readonly path = join(this.directory, 'x-json.log');
  readonly maxFiles: number;
  #lines = 0;

  constructor(maxFiles: number) {
    this.maxFiles = maxFiles;
    writeFileSync(this.path, '');
  }

  get file(): { path: string; maxSizeBytes: null; maxFiles: number; attributes: Record<string, string> } {
    return { path: this.path, maxSizeBytes: null, maxFiles: this.maxFiles, attributes: {} };
  }

  /** Line n is from second n, on stderr when n is odd. */
  line(text = ''): string {
    const n = this.#lines++;
    return `${JSON.stringify({ log: `${n}${text}\n`, stream: n % 2 === 0 ? 'stdout' : 'stderr', time: new Date(n * 1000).toISOString() })}\n`;
  }

  append(text = this.line()): void {
    appendFileSync(this.path, text);
  }

  rotate(): void {
    for (let i = this.maxFiles - 1; i > 1; i--) {
      for (const suffix of ['', '.gz']) {
        if (existsSync(`${this.path}.${i - 1}${suffix}`)) {
          rmSync(`${this.path}.${i}`, { force: true });
          rmSync(`${this.path}.${i}.gz`, { force: true });
          renameSync(`${this.path}.${i - 1}${suffix}`, `${this.path}.${i}${suffix}`);
        }
      }
    }
    if (this.maxFiles > 1) renameSync(this.path, `${this.path}.1`);
    else rmSync(this.path);
    writeFileSync(this.path, '');
  }

  [Symbol.dispose](): void {
    rmSync(this.directory, { recursive: true });
  }
}

const never = (): AbortSignal => new AbortController().signal;

async function read(writer: Writer, options: Partial<LogReadOptions> = {}): Promise<number[]> {
  const numbers: number[] = [];
  for await (const batch of readLog(writer.file, { ...ALL, ...options }, { signal: never(), ended: never() })) {
    assert.ok(batch.length > 0);
    for (const entry of batch) numbers.push(Number.parseInt(entry.line.toString(), 10));
  }
  return numbers;
}

suite('readLog', () => {
  test('readLog: tail gives as many lines as it says, also while they are written', async () => {
    using writer = new Writer(1);
    for (let n = 0; n < 10; n++) writer.append();
    const stop = new AbortController();
    const writing = (async () => {
      for (; !stop.signal.aborted; await new Promise((resolve) => setImmediate(resolve))) writer.append();
    })();
    const counts = new Set<number>();
    for (let n = 0; n < 200; n++) counts.add((await read(writer, { tail: 3 })).length);
    stop.abort();
    await writing;
    assert.deepEqual([...counts], [3]);
  });

  test('readLog: as a naive model, for any rotation, compression, tail, range and stream', async () => {
    const step = fc.constantFrom('line', 'line', 'line', 'rotate', 'corrupt');
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { maxLength: 40 }),
        fc.record({
          maxFiles: fc.integer({ min: 1, max: 4 }),
          compressed: fc.boolean(),
          half: fc.boolean(),
          tail: fc.option(fc.integer({ min: 0, max: 12 })),
          since: fc.option(fc.integer({ min: 0, max: 30 })),
          until: fc.option(fc.integer({ min: 0, max: 30 })),
          stdout: fc.boolean(),
          stderr: fc.boolean(),
          pad: fc.constantFrom('', 'x'.repeat(70_000)),
        }),
        async (steps, { maxFiles, compressed, half, tail, since, until, stdout, stderr, pad }) => {
          using writer = new Writer(maxFiles);
          let files: (number | null)[][] = [[]];
          let n = 0;
          for (const what of steps) {
            if (what === 'line') {
              writer.append(writer.line(pad));
              files.at(-1)?.push(n++);
            } else if (what === 'corrupt') {
              writer.append('{"log":"x\n');
              files.at(-1)?.push(null);
            } else {
              writer.rotate();
              files = [...files, []].slice(-maxFiles);
            }
          }
          if (half) writer.append('{"log":"half');
          const last = `${writer.path}.${maxFiles - 1}`;
          if (compressed && existsSync(last)) {
            writeFileSync(`${last}.gz`, gzipSync(files[0]?.map((k) => lineOf(k, pad)).join('') ?? ''));
            rmSync(last);
          }
          const lines = files.flat();
          const tailed = tail === null ? lines : tail === 0 ? [] : lines.slice(-tail);
          const expected = tailed.filter(
            (k): k is number =>
              k !== null &&
              (since === null || k >= since) &&
              (until === null || k <= until) &&
              (k % 2 === 0 ? stdout : stderr),
          );
          const bound = (seconds: number | null): bigint | null =>
            seconds === null ? null : BigInt(seconds) * SECOND_NS;
          assert.deepEqual(
            await read(writer, { tail, sinceNs: bound(since), untilNs: bound(until), stdout, stderr }),
            expected,
          );
        },
      ),
      { numRuns: 150 },
    );
  });

  test('readLog: following loses and doubles no line over rotations, and ends when the container does', async () => {
    using writer = new Writer(20); // none is deleted, however slow the machine
    const ended = new AbortController();
    const seen: number[] = [];
    const reading = (async () => {
      for await (const batch of readLog(
        writer.file,
        { ...ALL, follow: true },
        { signal: never(), ended: ended.signal },
      )) {
        for (const entry of batch) seen.push(Number.parseInt(entry.line.toString(), 10));
      }
    })();
    for (let i = 0; i < 300; i++) {
      const line = writer.line();
      if (i % 50 === 13) {
        // Half a line waits for its rest.
        writer.append(line.slice(0, 20));
        await new Promise((resolve) => setTimeout(resolve, 5));
        writer.append(line.slice(20));
      } else writer.append(line);
      if (i % 20 === 19) writer.rotate();
      if (i % 7 === 0) await new Promise((resolve) => setTimeout(resolve, 2));
    }
    ended.abort();
    await reading;
    assert.deepEqual(
      seen,
      Array.from({ length: 300 }, (_, i) => i),
    );
  });

  test(
    'readLog: a writer that appends and rotates between any two steps of the reader',
    { timeout: 60_000 },
    async () => {
      const AHEAD_MAX = 60;
      using writer = new Writer(40);
      const ended = new AbortController();
      const seen: number[] = [];
      let wake = (): void => {};
      const reading = (async () => {
        for await (const batch of readLog(
          writer.file,
          { ...ALL, follow: true },
          { signal: never(), ended: ended.signal },
        )) {
          for (const entry of batch) seen.push(Number.parseInt(entry.line.toString(), 10));
          wake();
        }
      })();
      let written = 0;
      for (let step = 0; step < 1500; step++) {
        const lines = step % 4;
        for (let i = 0; i < lines; i++) writer.append();
        written += lines;
        if (step % 9 === 0) writer.rotate();
        await new Promise((resolve) => setImmediate(resolve));
        // Waits for the reader, who must notice by itself: a change that goes unnoticed hangs here.
        while (written - seen.length > AHEAD_MAX) await new Promise<void>((resolve) => (wake = resolve));
      }
      while (seen.length < written) await new Promise<void>((resolve) => (wake = resolve));
      ended.abort();
      await reading;
      assert.deepEqual(
        seen,
        Array.from({ length: written }, (_, i) => i),
      );
    },
  );

  test('readLog: a follower that slept over several rotations goes on with what is left', async () => {
    using writer = new Writer(4);
    const ended = new AbortController();
    writer.append();
    const iterator = readLog(writer.file, { ...ALL, follow: true }, { signal: never(), ended: ended.signal })[
      Symbol.asyncIterator
    ]();
    assert.equal((await iterator.next()).value?.length, 1);
    for (let round = 0; round < 2; round++) {
      writer.append();
      writer.append();
      writer.rotate();
    }
    // What it was reading has been compressed meanwhile.
    writeFileSync(`${writer.path}.2.gz`, gzipSync([0, 1, 2].map((n) => lineOf(n, '')).join('')));
    rmSync(`${writer.path}.2`);
    ended.abort();
    const rest: number[] = [];
    for (let next = await iterator.next(); !next.done; next = await iterator.next()) {
      for (const entry of next.value) rest.push(Number.parseInt(entry.line.toString(), 10));
    }
    assert.deepEqual(rest, [1, 2, 3, 4]);
  });

  test('readLog: follow ends by its signal, without a file and with a truncated one too', async () => {
    using writer = new Writer(1);
    const stop = new AbortController();
    const seen: number[] = [];
    rmSync(writer.path);
    const reading = (async () => {
      for await (const batch of readLog(
        writer.file,
        { ...ALL, tail: 5, follow: true },
        { signal: stop.signal, ended: never() },
      )) {
        for (const entry of batch) seen.push(Number.parseInt(entry.line.toString(), 10));
        if (seen.length === 1) truncateSync(writer.path);
        if (seen.length === 1) writer.append();
        if (seen.length === 2) stop.abort();
      }
    })();
    await new Promise((resolve) => setTimeout(resolve, 10));
    writer.append(writer.line('a long first line'));
    await reading;
    assert.deepEqual(seen, [0, 1]);
  });

  test('readLog: no log at all is empty', async () => {
    assert.deepEqual(
      await Array.fromAsync(
        readLog({ path: '/nonexistent/x', maxSizeBytes: null, maxFiles: 3, attributes: {} }, ALL, {
          signal: never(),
          ended: never(),
        }),
      ),
      [],
    );
  });
});

function lineOf(n: number | null, pad: string): string {
  if (n === null) return '{"log":"x\n';
  return `${JSON.stringify({ log: `${n}${pad}\n`, stream: n % 2 === 0 ? 'stdout' : 'stderr', time: new Date(n * 1000).toISOString() })}\n`;
}
