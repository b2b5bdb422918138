/**
 * Keeps the first bytes of a probe's output, out of Docker's multiplexed stream (8 bytes of header: stream, three
 * zeros, length in big endian), stdout and stderr as they came. Source: moby daemon/health.go limitedBuffer (v28).
 */
import type { Duplex } from 'node:stream';

import type { Clock } from '../core/clock.ts';

const HEADER_BYTES = 8;

export interface ProbeOutput {
  /** With "..." where it was cut. */
  text(): string;
  /** Resolves when the stream has ended, at the latest after `ms`. */
  finished(ms: number, clock: Clock): Promise<void>;
}

export function collectOutput(stream: Duplex | null, bytesMax: number): ProbeOutput {
  if (stream === null) return { text: () => '', finished: async () => {} };
  const demultiplex = demultiplexer();
  const kept: Buffer[] = [];
  let keptBytes = 0;
  let cut = false;
  const over = Promise.withResolvers<void>();
  stream.on('data', (chunk: Buffer) => {
    for (const payload of demultiplex(chunk)) {
      const part = payload.subarray(0, bytesMax - keptBytes);
      cut ||= part.length < payload.length;
      keptBytes += part.length;
      if (part.length > 0) kept.push(Buffer.from(part));
    }
  });
  stream.on('error', () => over.resolve());
  stream.on('close', () => over.resolve());
  stream.on('end', () => over.resolve());
  return {
    text: () => Buffer.concat(kept).toString('utf8') + (cut ? '...' : ''),
    async finished(ms, clock) {
      const timer = clock.setTimer(ms, () => over.resolve());
      await over.promise;
      timer[Symbol.dispose]();
      stream.destroy();
    },
  };
}

/** Frames may be split and joined anywhere. */
export function demultiplexer(): (chunk: Buffer) => Buffer[] {
  let header = Buffer.alloc(0);
  let leftBytes = 0;
  return (chunk) => {
    const payloads: Buffer[] = [];
    let rest = chunk;
    while (rest.length > 0) {
      if (leftBytes > 0) {
        const payload = rest.subarray(0, leftBytes);
        payloads.push(payload);
        leftBytes -= payload.length;
        rest = rest.subarray(payload.length);
        continue;
      }
      const part = rest.subarray(0, HEADER_BYTES - header.length);
      header = Buffer.concat([header, part]);
      rest = rest.subarray(part.length);
      if (header.length < HEADER_BYTES) break;
      leftBytes = header.readUInt32BE(4);
      header = Buffer.alloc(0);
    }
    return payloads;
  };
}
