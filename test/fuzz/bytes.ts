/** Hostile bytes: of nothing, and of good input with something wrong in it. */
import type { Random } from '../support/random.ts';

const INTERESTING = [0, 1, 0x0a, 0x22, 0x5c, 0x75, 0x7b, 0x7d, 0x7f, 0x80, 0xc3, 0xe2, 0xed, 0xf0, 0xfe, 0xff];

export function randomBytes(random: Random, below: number): Buffer {
  return Buffer.from(Array.from({ length: random.below(below) }, () => random.below(256)));
}

/** A few changes: bytes turned, taken out, put in twice, cut off, mixed with another seed. */
export function mutated(random: Random, seeds: readonly Buffer[]): Buffer {
  let bytes = Buffer.from(random.pick(seeds));
  for (let changes = random.below(6); changes > 0 && bytes.length > 0; changes--) {
    const at = random.below(bytes.length);
    const length = Math.min(1 + random.below(12), bytes.length - at);
    switch (random.below(6)) {
      case 0:
        bytes[at] = random.below(256);
        break;
      case 1:
        bytes[at] = random.pick(INTERESTING);
        break;
      case 2:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
        break;
      case 3:
        bytes = Buffer.concat([bytes.subarray(0, at + length), bytes.subarray(at)]);
        break;
      case 4:
        bytes = bytes.subarray(0, at);
        break;
      default:
        bytes = Buffer.concat([bytes.subarray(0, at), random.pick(seeds).subarray(random.below(8))]);
    }
  }
  return bytes;
}

/** Cut anywhere, also into nothing. */
export function pieces(random: Random, bytes: Buffer): Buffer[] {
  const cut: Buffer[] = [];
  for (let at = 0; at < bytes.length;) {
    const length = random.below(4) === 0 ? random.below(bytes.length + 1) : random.below(7);
    cut.push(Buffer.from(bytes.subarray(at, at + length)));
    at += length;
  }
  return cut;
}
