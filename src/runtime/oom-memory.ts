/**
 * What the cgroup of a container says of its memory at the moment in which the kernel killed one of its processes. Read at
 * once, three lines of kernel memory: a moment later the cgroup may be gone.
 */
import { readFileSync } from 'node:fs';

import type { Cgroups } from '../kernel/port.ts';

export interface OomMemory {
  /** null: none. */
  readonly limitBytes: number | null;
  /** The most that was used; the use now where the kernel keeps no peak (v2 before 5.19). */
  readonly usedBytes: number;
}

/** What v1 has for "no limit": the largest number of pages. */
const UNLIMITED = 2 ** 62;

/** null: it cannot be read any more. */
export function readOomMemory(cgroups: Pick<Cgroups, 'version' | 'directory'>, path: string): OomMemory | null {
  const isV2 = cgroups.version === 'v2';
  const peaks = isV2 ? ['memory.peak', 'memory.current'] : ['memory.max_usage_in_bytes'];
  try {
    const directory = cgroups.directory('memory', path);
    const limit = readNumber(`${directory}/${isV2 ? 'memory.max' : 'memory.limit_in_bytes'}`); // "max" is no number
    const used = peaks.map((name) => readNumber(`${directory}/${name}`)).find((value) => value !== null);
    return used === undefined
      ? null
      : { limitBytes: limit === null || limit >= UNLIMITED ? null : limit, usedBytes: used };
  } catch {
    return null;
  }
}

function readNumber(path: string): number | null {
  try {
    const text = readFileSync(path, 'utf8').trim();
    return /^\d+$/.test(text) ? Number(text) : null;
  } catch {
    return null;
  }
}
