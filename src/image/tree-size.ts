/** How much the files of a tree hold, each counted once however many links it has. Source: moby daemon/internal/directory. */
import { walkTree } from './walk-tree.ts';

export async function sizeOfTree(root: string): Promise<number> {
  const seen = new Set<bigint>();
  let bytes = 0n;
  for await (const { stat } of walkTree(root)) {
    if (stat.isDirectory()) continue;
    if (stat.nlink > 1n) {
      if (seen.has(stat.ino)) continue;
      seen.add(stat.ino);
    }
    bytes += stat.size;
  }
  return Number(bytes);
}
