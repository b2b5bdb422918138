/** The namespaces that a container gets, joins, or shares with the host. Source: moby daemon/oci_linux.go (v28). */
import { EngineError } from '../../core/engine-error.ts';
import { isInUserNamespace, type OciInput } from './input.ts';

export interface OciNamespace {
  readonly type: 'mount' | 'network' | 'uts' | 'pid' | 'ipc' | 'cgroup' | 'user';
  readonly path?: string;
}

export function decideNamespaces(input: OciInput): OciNamespace[] {
  const { host, process } = input.spec;
  const namespaces: OciNamespace[] = [{ type: 'mount' }];
  if (isInUserNamespace(host, input.daemon)) {
    const path = input.userNamespacePath;
    namespaces.push(path === null ? { type: 'user' } : { type: 'user', path });
  }
  if (input.networkNamespacePath !== null) namespaces.push({ type: 'network', path: input.networkNamespacePath });
  else if (process.networkDisabled) namespaces.push({ type: 'network' });
  if (host.utsMode !== 'host') namespaces.push({ type: 'uts' });
  if (host.pidMode !== 'host') namespaces.push(joined('pid', host.pidMode, input.pidModePid));
  if (host.ipcMode !== 'host') namespaces.push(joined('ipc', host.ipcMode, input.ipcModePid));
  if (host.cgroupnsMode === 'private' && input.host.cgroupNamespaces) namespaces.push({ type: 'cgroup' });
  return namespaces;
}

function joined(type: 'pid' | 'ipc', mode: string, pid: number | null): OciNamespace {
  if (!mode.startsWith('container:')) return { type };
  if (pid === null) {
    const other = mode.slice('container:'.length);
    throw new EngineError(
      'CONTAINER_NOT_RUNNING',
      `cannot join ${type.toUpperCase()} namespace of a non running container: container ${other} is not running`,
    );
  }
  return { type, path: `/proc/${pid}/ns/${type}` };
}
