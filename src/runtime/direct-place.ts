/**
 * Whether execs of a run can do without the OCI runtime, and what they need to know of the container: read once a run
 * from its config.json, which is all that a daemon knows of a container that an earlier one started.
 */
import { rename, writeFile } from 'node:fs/promises';
import { basename } from 'node:path';

import type { Cgroups } from '../kernel/port.ts';
import type { DirectPlace } from './direct-exec.ts';
import { hasFlags, type SeccompCache } from './seccomp-cache.ts';
import type { RunIdentity } from './shim-link.ts';
import { readConfig } from './state-dir.ts';

/**
 * null where only the runtime knows how: it is another one than runc and crun (with a machine of its own, perhaps), the
 * container has a user namespace, an SELinux label, a handler, or a filter that cannot be compiled here, or has flags or a
 * listener.
 */
export async function readDirectPlace(
  identity: RunIdentity,
  runtimePath: string,
  { cgroups, seccomp }: { readonly cgroups: Cgroups; readonly seccomp: SeccompCache },
): Promise<DirectPlace | null> {
  const kind = /^(?:.*-)?(crun|runc)(?:-[^/]*)?$/.exec(basename(runtimePath))?.[1];
  const config = await readConfig(identity.directory);
  if (kind === undefined || config === null) return null;
  const { filter, profile, namespaces, annotations, selinux } = config;
  if (selinux || namespaces.includes('user') || namespaces.includes('time')) return null;
  if (Object.keys(annotations).some((name) => name.startsWith('run.oci.handler'))) return null;
  if (profile !== null && (!seccomp.available || hasFlags(profile))) return null;
  if (JSON.stringify(profile).includes('SCMP_ACT_NOTIFY')) return null;
  const compiled = filter ?? (profile === null ? null : await seccomp.filter(profile));
  const keyring = kind === 'crun' ? identity.id : `_ses.${identity.id}`;
  const { hierarchies } = cgroups;
  if (compiled === null) return { hierarchies, seccompPath: null, keyring };
  const seccompPath = `${identity.directory}/seccomp.bpf`;
  await writeFile(`${seccompPath}.new`, Buffer.from(compiled, 'base64'), { mode: 0o600 });
  await rename(`${seccompPath}.new`, seccompPath);
  return { hierarchies, seccompPath, keyring };
}
