/** How many bytes the files below a directory hold, each counted once. Source: moby pkg/directory (v28). */
import { lstat, readdir } from 'node:fs/promises';

export async function treeSizeBytes(root: string): Promise<number> {
  const seen = new Set<string>();
  const directories = [root];
  let total = 0n;
  for (let directory; (directory = directories.pop()) !== undefined;) {
    for (const name of await readdir(directory).catch(ignoreMissing)) {
      const path = `${directory}/${name}`;
      const stats = await lstat(path, { bigint: true }).catch(() => null); // gone meanwhile: a volume lives
      if (stats === null) continue;
      if (stats.isDirectory()) directories.push(path);
      else if (stats.nlink === 1n || !seen.has(`${stats.dev}:${stats.ino}`)) {
        if (stats.nlink > 1n) seen.add(`${stats.dev}:${stats.ino}`);
        total += stats.size;
      }
    }
  }
  return Number(total);
}

function ignoreMissing(error: NodeJS.ErrnoException): string[] {
  if (error.code === 'ENOENT') return [];
  throw error;
}
