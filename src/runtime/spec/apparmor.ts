/**
 * AppArmor's profile of a container that asks for none: equal in effect to Docker's, under its name, so that tools and
 * documents that name it stay true. Source: moby profiles/apparmor (v28), docs.docker.com/engine/security/apparmor,
 * apparmor.d(5).
 */
export const APPARMOR_DEFAULT = 'docker-default';

/** Of a container and all its execs, where AppArmor confines. `asked`: of --security-opt; "" for nothing. */
export function apparmorProfile(asked: string, privileged: boolean): string {
  return asked || (privileged ? 'unconfined' : APPARMOR_DEFAULT);
}

/** Where a container may not write, and these it may not even read: what reaches the host from an unmasked /proc or /sys. */
const NEVER_TOUCHED = [
  '/proc/sysrq-trigger',
  '/proc/kcore',
  '/sys/firmware/**',
  '/sys/devices/virtual/powercap/**',
  '/sys/kernel/security/**',
] as const;

/**
 * The policy's text, without includes: it must not depend on what /etc/apparmor.d holds.
 * @param daemonProfile that of the engine's own processes, which send the signals: "unconfined", mostly
 */
export function defaultApparmorPolicy(daemonProfile: string): string {
  const signallers = [...new Set(['unconfined', daemonProfile, 'runc', 'crun'])];
  const rules = [
    'network,',
    'capability,',
    'file,',
    'umount,',
    ...signallers.map((peer) => `signal (receive) peer=${quoted(peer)},`),
    `signal (send, receive) peer=${APPARMOR_DEFAULT},`,
    `ptrace (trace, read, tracedby, readby) peer=${APPARMOR_DEFAULT},`,
    'deny mount,',
    ...NEVER_TOUCHED.map((path) => `deny ${path} rwklx,`),
    // Of /proc, processes may be written to and some of sys/kernel (shm*, and what namespaces keep apart).
    'deny /proc/* w,',
    'deny /proc/{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9/]*}/** w,',
    'deny /proc/sys/[^k]** w,',
    'deny /proc/sys/kernel/{?,??,[^s][^h][^m]**} w,',
    // Of /sys, nothing but fs/cgroup.
    ...allBut('/sys/', 'fs').map((path) => `deny ${path} wklx,`),
    ...allBut('/sys/fs/', 'cgroup').map((path) => `deny ${path} wklx,`),
  ];
  const body = rules.map((rule) => `  ${rule}\n`).join('');
  return `profile ${APPARMOR_DEFAULT} flags=(attach_disconnected,mediate_deleted) {\n${body}}\n`;
}

/** Globs of all directories of a parent but the one kept: they part from its name at one of its letters. */
function allBut(parent: string, kept: string): string[] {
  return Array.from(kept, (letter, i) => `${parent}${kept.slice(0, i)}[^${letter}]*/**`);
}

function quoted(name: string): string {
  return `"${name.replaceAll(/["\\]/g, String.raw`\$&`)}"`;
}
