/** Which capabilities a container gets. Source: moby oci/caps (v28). */
import { EngineError } from '../../core/engine-error.ts';

/** Every capability that Linux has, in the kernel's order. */
export const CAPABILITIES = [
  'CHOWN', 'DAC_OVERRIDE', 'DAC_READ_SEARCH', 'FOWNER', 'FSETID', 'KILL', 'SETGID', 'SETUID', 'SETPCAP',
  'LINUX_IMMUTABLE', 'NET_BIND_SERVICE', 'NET_BROADCAST', 'NET_ADMIN', 'NET_RAW', 'IPC_LOCK', 'IPC_OWNER',
  'SYS_MODULE', 'SYS_RAWIO', 'SYS_CHROOT', 'SYS_PTRACE', 'SYS_PACCT', 'SYS_ADMIN', 'SYS_BOOT', 'SYS_NICE',
  'SYS_RESOURCE', 'SYS_TIME', 'SYS_TTY_CONFIG', 'MKNOD', 'LEASE', 'AUDIT_WRITE', 'AUDIT_CONTROL', 'SETFCAP',
  'MAC_OVERRIDE', 'MAC_ADMIN', 'SYSLOG', 'WAKE_ALARM', 'BLOCK_SUSPEND', 'AUDIT_READ', 'PERFMON', 'BPF',
  'CHECKPOINT_RESTORE',
].map((name) => `CAP_${name}`); // prettier-ignore

/** moby oci/caps/defaults.go */
export const DEFAULT_CAPABILITIES: readonly string[] = [
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_FSETID',
  'CAP_FOWNER',
  'CAP_MKNOD',
  'CAP_NET_RAW',
  'CAP_SETGID',
  'CAP_SETUID',
  'CAP_SETFCAP',
  'CAP_SETPCAP',
  'CAP_NET_BIND_SERVICE',
  'CAP_SYS_CHROOT',
  'CAP_KILL',
  'CAP_AUDIT_WRITE',
];

const ALL = 'ALL';

/**
 * "chown", "CAP_CHOWN" and "ALL" become Docker's spelling; the result is sorted and free of doubles.
 * @throws {EngineError} CONTAINER_SPEC_INVALID `unknown capability: "CAP_X"`, or that this host lacks it
 */
export function normalizeCapabilities(names: readonly string[], available: readonly string[]): string[] {
  const normal = new Set<string>();
  for (const name of names) {
    const upper = name.toUpperCase();
    if (upper === ALL) {
      normal.add(ALL);
      continue;
    }
    const capability = upper.startsWith('CAP_') ? upper : `CAP_${upper}`;
    if (!CAPABILITIES.includes(capability)) {
      throw new EngineError('CONTAINER_SPEC_INVALID', `unknown capability: "${capability}"`);
    }
    if (!available.includes(capability)) {
      throw new EngineError(
        'CONTAINER_SPEC_INVALID',
        `capability not supported by your kernel or not available in the current environment: "${capability}"`,
      );
    }
    normal.add(capability);
  }
  return [...normal].toSorted();
}

/**
 * What the container's process holds. "All" means what the daemon itself holds: a runtime cannot give more, and
 * refuses to start a container that asks for it.
 */
export function decideCapabilities(options: {
  readonly add: readonly string[] | null;
  readonly drop: readonly string[] | null;
  readonly privileged: boolean;
  readonly available: readonly string[];
}): string[] {
  const { available } = options;
  if (options.privileged) return CAPABILITIES.filter((capability) => available.includes(capability));
  const add = normalizeCapabilities(options.add ?? [], available);
  // What is not there need not be available to be dropped, but its name must be right.
  const drop = normalizeCapabilities(options.drop ?? [], CAPABILITIES);
  const wanted = new Set<string>(
    add.includes(ALL) ? available : drop.includes(ALL) ? [] : DEFAULT_CAPABILITIES.filter((c) => available.includes(c)),
  );
  if (!add.includes(ALL)) for (const capability of add) wanted.add(capability);
  // An added one wins over "drop all", a dropped one over "add all" and over the defaults.
  for (const capability of drop) if (add.includes(ALL) || !add.includes(capability)) wanted.delete(capability);
  return CAPABILITIES.filter((capability) => wanted.has(capability));
}

/**
 * The OCI object: nothing is inheritable or ambient (CVE-2022-24769), and who is not root holds none, as after an execve.
 */
export function ociCapabilities(capabilities: readonly string[], uid: number): object {
  return uid === 0
    ? { bounding: capabilities, effective: capabilities, permitted: capabilities }
    : { bounding: capabilities };
}
