/** Is a shared library installed? Looks where the loader looks by default, without loading it. Source: ld.so(8). */
import { existsSync } from 'node:fs';

const TRIPLETS: Readonly<Record<string, string>> = { x64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' };

export function findLibrary(name: string): boolean {
  const triplet = TRIPLETS[process.arch];
  const roots = ['/lib64', '/usr/lib64', '/lib', '/usr/lib', '/usr/local/lib', '/usr/local/lib64'];
  const directories = triplet === undefined ? roots : [`/usr/lib/${triplet}`, `/lib/${triplet}`, ...roots];
  return directories.some((directory) => existsSync(`${directory}/${name}`));
}
