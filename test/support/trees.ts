/** Directory trees as tests compare them: every kind of file that a layer can hold, and a listing of all that there is to it. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import {
  chmod,
  chown,
  lchown,
  link,
  lstat,
  lutimes,
  mkdir,
  open,
  readdir,
  readlink,
  symlink,
  writeFile,
} from 'node:fs/promises';

import { decodeFileName, fsPath } from '../../src/core/file-name.ts';
import type { Files } from '../../src/kernel/port.ts';

export const HUGE_BYTES = 8 * 1024 ** 3;
const HASHED_BYTES_MAX = 256 * 1024 * 1024;
/** security.capability of revision 2: cap_net_raw, permitted and effective. */
const CAP_NET_RAW = Buffer.from('0100000200200000000000000000000000000000', 'hex');
/** A file's own attributes; overlayfs's are the layer's. */
const XATTRS_LISTED = /^(?:user\.|security\.capability$|system\.posix_acl_)/;

/** Below `root`, which is there and empty. `huge`: also a sparse file of 8 GiB. */
export async function makeTree(root: string, files: Files, { huge }: { readonly huge: boolean }): Promise<void> {
  await mkdir(`${root}/d/sticky`, { recursive: true });
  await writeFile(`${root}/empty`, '');
  await writeFile(`${root}/d/plain`, 'plain\n');
  await writeFile(`${root}/d/large`, Buffer.alloc(3_000_001, 'large '));
  await writeFile(`${root}/d/setuid`, '#!/bin/sh\n');
  await chown(`${root}/d/setuid`, 1234, 100_000);
  await chmod(`${root}/d/setuid`, 0o6755);
  await chmod(`${root}/d/sticky`, 0o1777);
  await mkdir(`${root}/d/setgid`);
  await chown(`${root}/d/setgid`, 0, 50);
  await chmod(`${root}/d/setgid`, 0o2775);
  await writeFile(`${root}/d/setgid/inside`, '');
  await mkdir(`${root}/d/closed`, { mode: 0o000 });
  await writeFile(`${root}/capable`, 'x');
  await files.setXattr(`${root}/capable`, 'security.capability', CAP_NET_RAW);
  await files.setXattr(`${root}/d/plain`, 'user.note', Buffer.from([0, 1, 0x3d, 0x0a, 255]));
  await files.setXattr(`${root}/d`, 'user.of-a-directory', Buffer.from('yes'));
  await files.makeNode(`${root}/d/null`, 0o020666, 1, 3);
  await files.makeNode(`${root}/d/block`, 0o060640, 259, 0x12345);
  await files.makeNode(`${root}/d/fifo`, 0o010600, 0, 0);
  await symlink('/etc/passwd', `${root}/d/out`);
  await lchown(`${root}/d/out`, 7, 8);
  await symlink('x'.repeat(1000), `${root}/d/long-link`);
  await symlink(Buffer.from('caf\xe9', 'latin1'), `${root}/d/latin1-link`);
  await link(`${root}/d/plain`, `${root}/zz-plain-again`);
  await link(`${root}/d/out`, `${root}/d/out-again`);
  for (const name of [
    'new\nline',
    ' ',
    '…',
    '"quoted"\\',
    'caf\udce9',
    '\ufeffmark',
    '-rf',
    '.whx',
    `n${'a'.repeat(254)}`,
  ])
    await writeFile(fsPath(`${root}/d/${name}`), name.isWellFormed() ? name : 'latin1');
  const deep = `${root}/deep/${Array.from({ length: 12 }, () => 'p'.repeat(60)).join('/')}`;
  await mkdir(deep, { recursive: true });
  await writeFile(`${deep}/file`, 'deep');
  await link(`${deep}/file`, `${deep}/again`);
  const sparse = await open(`${root}/sparse`, 'wx');
  await sparse.write('begin', 0);
  await sparse.write('middle', 20_000_000);
  await sparse.truncate(40_000_000);
  await sparse.close();
  if (huge) {
    await symlink('../../../../etc/passwd', `${root}/d/above`); // layers may have it, copies may not
    const file = await open(`${root}/huge`, 'wx');
    await file.write('far', HUGE_BYTES - 4096);
    await file.truncate(HUGE_BYTES);
    await file.close();
  }
  await lutimes(`${root}/d/out`, 1, 1_234_567_890.25);
  await lutimes(`${root}/empty`, 1, -86_400.5); // before 1970
  await lutimes(`${root}/d/sticky`, 1, 4_000_000_000.75);
}

/** What there is to each file, by its path. Times of the root itself and inode numbers do not count. */
export async function listTree(root: string, files: Files): Promise<Map<string, string>> {
  const listing = new Map<string, string>();
  const links = new Map<bigint, string>();
  const walk = async (directory: string, prefix: string): Promise<void> => {
    const names = (await readdir(fsPath(directory), { encoding: 'buffer' })).map(decodeFileName).toSorted();
    for (const name of names) {
      const at = `${directory}/${name}`;
      const path = prefix + name;
      listing.set(path, await describe(at, path, files, links));
      if ((await lstat(fsPath(at))).isDirectory()) await walk(at, `${path}/`);
    }
  };
  await walk(root, '');
  return listing;
}

async function describe(at: string, path: string, files: Files, links: Map<bigint, string>): Promise<string> {
  const stat = await lstat(fsPath(at), { bigint: true });
  const parts = [`mode ${stat.mode.toString(8)}`, `owner ${stat.uid}:${stat.gid}`, `time ${stat.mtimeNs}`];
  if (stat.isCharacterDevice() || stat.isBlockDevice()) parts.push(`device ${stat.rdev}`);
  if (stat.isSymbolicLink()) parts.push(`to ${decodeFileName(await readlink(fsPath(at), { encoding: 'buffer' }))}`);
  if (stat.isFile()) parts.push(`size ${stat.size}`, await contentOf(at, stat.size));
  if (!stat.isDirectory() && stat.nlink > 1n) {
    parts.push(`link of ${links.get(stat.ino) ?? path}`);
    if (!links.has(stat.ino)) links.set(stat.ino, path);
  }
  for (const name of (await files.listXattr(at)).filter((name) => XATTRS_LISTED.test(name)).toSorted())
    parts.push(`${name} ${(await files.getXattr(at, name))?.toString('hex')}`);
  return parts.join(', ');
}

/** Of a very large file its end alone, and that it takes little room. */
async function contentOf(at: string, size: bigint): Promise<string> {
  const hash = createHash('sha256');
  const start = size > HASHED_BYTES_MAX ? Number(size) - 8192 : 0;
  for await (const chunk of createReadStream(fsPath(at), { start })) hash.update(chunk as Buffer);
  const isSparse = size > HASHED_BYTES_MAX && (await lstat(fsPath(at))).blocks * 512 < Number(size) / 100;
  return `${hash.digest('hex').slice(0, 16)}${isSparse ? ' sparse' : ''}`;
}

/** Says which files differ, rather than two listings of thousands of lines. `ignored`: what the engine adds. */
export function assertSameTree(
  actual: ReadonlyMap<string, string>,
  expected: ReadonlyMap<string, string>,
  what: string,
  ignored: (path: string) => boolean = () => false,
): void {
  const differences: string[] = [];
  for (const path of new Set([...expected.keys(), ...actual.keys()])) {
    if (ignored(path) || actual.get(path) === expected.get(path)) continue;
    differences.push(`${JSON.stringify(path)}\n  is     ${actual.get(path)}\n  wanted ${expected.get(path)}`);
  }
  assert.equal(
    differences.length,
    0,
    `${what}: ${differences.length} of ${expected.size} files differ:\n${differences.slice(0, 20).join('\n')}`,
  );
}

/** GNU tar's archive of a tree. */
export function packWithTar(root: string, to: string, ...options: readonly string[]): void {
  const argv = ['--numeric-owner', '--xattrs', '--xattrs-include=*', '--format=posix', '--sparse', ...options];
  execFileSync('tar', [...argv, '-C', root, '-cf', to, '.'], { maxBuffer: 1 << 20 });
}

export function unpackWithTar(from: string, to: string): void {
  execFileSync('tar', ['--numeric-owner', '--xattrs', '--xattrs-include=*', '-C', to, '-xpf', from]);
}
