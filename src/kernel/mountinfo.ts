/** /proc/PID/mountinfo. Source: proc_pid_mountinfo(5). */

export interface MountEntry {
  /** What of the file system is mounted there. */
  readonly root: string;
  readonly mountPoint: string;
  readonly type: string;
  readonly superOptions: readonly string[];
}

/** Lines that are not understood are left out. */
export function parseMountinfo(content: string): MountEntry[] {
  return content.split('\n').flatMap((line) => {
    const separator = line.indexOf(' - ');
    if (separator === -1) return [];
    const [, , , root, mountPoint] = line.slice(0, separator).split(' ');
    const [type, , superOptions] = line.slice(separator + 3).split(' ');
    if (root === undefined || mountPoint === undefined || type === undefined) return [];
    return [
      { root: unescape(root), mountPoint: unescape(mountPoint), type, superOptions: (superOptions ?? '').split(',') },
    ];
  });
}

/** Mount points at or below a directory, the last mounted first: the order to unmount in. */
export function mountPointsBelow(entries: readonly MountEntry[], directory: string): string[] {
  const prefix = directory.endsWith('/') ? directory : `${directory}/`;
  const self = prefix === '/' ? '/' : prefix.slice(0, -1);
  const depth = (path: string): number => path.split('/').length;
  return entries
    .map((entry) => entry.mountPoint)
    .filter((mountPoint) => mountPoint === self || mountPoint.startsWith(prefix))
    .toReversed()
    .toSorted((a, b) => depth(b) - depth(a));
}

/** The kernel writes space, tab, newline and backslash as octal; bytes of UTF-8 stand as they are. */
function unescape(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
