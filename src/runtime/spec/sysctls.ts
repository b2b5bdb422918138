/** Sysctls of a container, and which of them a namespace of its own isolates. Source: moby oci_linux.go, runc validate. */
import { EngineError } from '../../core/engine-error.ts';
import { isInUserNamespace, type OciInput } from './input.ts';
import type { OciNamespace } from './namespaces.ts';

const IPC = new Set([
  'kernel.msgmax',
  'kernel.msgmnb',
  'kernel.msgmni',
  'kernel.sem',
  'kernel.shmall',
  'kernel.shmmax',
  'kernel.shmmni',
  'kernel.shm_rmid_forced',
]);

/**
 * Docker's defaults below what the user asked for.
 * @throws {EngineError} CONTAINER_SPEC_INVALID for a sysctl of the whole host, or of a namespace that is shared
 */
export function decideSysctls(input: OciInput, namespaces: readonly OciNamespace[]): Record<string, string> {
  const { host, process } = input.spec;
  const sysctls: Record<string, string> = {};
  if (process.domainname !== '' && host.utsMode !== 'host') sysctls['kernel.domainname'] = process.domainname;
  const sharesNetwork = host.networkMode === 'host' || host.networkMode.startsWith('container:');
  if (!sharesNetwork) {
    // Ping without CAP_NET_RAW and ports below 1024 without CAP_NET_BIND_SERVICE: both are granted by default anyway.
    // The range names groups that a user namespace does not have.
    if (input.host.pingGroupRange && !isInUserNamespace(host, input.daemon))
      sysctls['net.ipv4.ping_group_range'] = '0 2147483647';
    if (input.host.unprivilegedPortStart) sysctls['net.ipv4.ip_unprivileged_port_start'] = '0';
  }
  for (const [asked, value] of Object.entries(host.sysctls ?? {})) {
    const name = normalizeSysctl(asked);
    checkSysctl(name, host.networkMode === 'host', namespaces);
    sysctls[name] = value;
  }
  return sysctls;
}

/** "net/ipv4/ip_forward" and "net.ipv4.ip_forward" are the same; in the first a dot belongs to an interface's name. */
function normalizeSysctl(name: string): string {
  const slash = name.indexOf('/');
  const dot = name.indexOf('.');
  if (slash < 0 || (dot >= 0 && dot < slash)) return name;
  return name.replaceAll(/[./]/g, (separator) => (separator === '/' ? '.' : '/'));
}

function checkSysctl(name: string, hostNetwork: boolean, namespaces: readonly OciNamespace[]): void {
  const has = (type: OciNamespace['type']): boolean => namespaces.some((namespace) => namespace.type === type);
  const refuse = (why: string): never => {
    throw new EngineError('CONTAINER_SPEC_INVALID', `sysctl "${name}" ${why}`);
  };
  if (IPC.has(name) || name.startsWith('fs.mqueue.')) {
    if (!has('ipc')) refuse('is not allowed in the hosts ipc namespace');
  } else if (name.startsWith('net.')) {
    if (hostNetwork || !has('network')) refuse('not allowed in host network namespace');
  } else if (name === 'kernel.domainname') {
    if (!has('uts')) refuse('not allowed in host UTS namespace');
  } else if (name === 'kernel.hostname') {
    refuse('conflicts with OCI field "hostname"');
  } else {
    refuse('is not in a separate kernel namespace');
  }
}
