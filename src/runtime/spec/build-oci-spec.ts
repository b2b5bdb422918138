/** The OCI runtime-spec config.json of a container, from what was asked and facts about the host. Pure. */
import { isRemapped, type IdRange } from '../../core/id-map.ts';
import { idsOf, type OciInput } from './input.ts';
import { applyCdiEdits, type OciHooks } from '../cdi/apply-edits.ts';
import { ociCgroupsPath } from './cgroup-path.ts';
import { decideDevices, type OciDevice, type OciDeviceRule } from './devices.ts';
import { decidePaths } from './masked-paths.ts';
import { decideMounts, INIT_PATH, type OciMount } from './mounts.ts';
import { decideNamespaces, type OciNamespace } from './namespaces.ts';
import { buildProcess, capabilitiesOf, effectiveArgs, type OciProcess } from './process.ts';
import { buildResources, type OciResources } from './resources.ts';
import { decideSeccomp, type OciSeccomp } from './seccomp.ts';
import { parseSecurityOptions } from './security-options.ts';
import { decideSysctls } from './sysctls.ts';

const OCI_VERSION = '1.0.2'; // what crun 1.8 and runc 1.1 both know

export interface OciSpec {
  readonly ociVersion: string;
  readonly process: OciProcess;
  readonly root: { readonly path: string; readonly readonly: boolean };
  readonly hostname?: string;
  readonly mounts: readonly OciMount[];
  readonly hooks?: OciHooks;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly linux: {
    readonly namespaces: readonly OciNamespace[];
    readonly uidMappings?: readonly OciIdMapping[];
    readonly gidMappings?: readonly OciIdMapping[];
    readonly sysctl: Readonly<Record<string, string>>;
    readonly cgroupsPath: string;
    readonly resources: OciResources & { readonly devices: readonly OciDeviceRule[] };
    readonly devices: readonly OciDevice[];
    readonly seccomp?: OciSeccomp;
    readonly rootfsPropagation?: string;
    readonly maskedPaths: readonly string[];
    readonly readonlyPaths: readonly string[];
  };
}

/** @throws {EngineError} naming the option that cannot be honoured, with Docker's words where it has some */
export function buildOciSpec(input: OciInput): OciSpec {
  const { host, process } = input.spec;
  const security = parseSecurityOptions(host.securityOpt, input.daemon);
  const namespaces = decideNamespaces(input);
  const init = wantsInit(input);
  const args = effectiveArgs(process);
  const { mounts, rootfsPropagation } = decideMounts(input, { init, writableCgroups: security.writableCgroups });
  const { devices, rules } = decideDevices(input);
  const paths = decidePaths(host, input.host.thermalThrottleCpus);
  const seccomp = decideSeccomp({
    asked: security.seccomp,
    daemonProfile: input.daemon.seccompProfile,
    privileged: host.privileged,
    supported: input.host.seccomp,
    situation: {
      capabilities: capabilitiesOf(input, host.privileged),
      architecture: input.host.architecture,
      kernelVersion: input.host.kernelVersion,
    },
  });
  const { id, daemon } = input;
  const cgroup = {
    id,
    parent: host.resources.cgroupParent,
    daemonParent: daemon.cgroupParent,
    driver: daemon.cgroupDriver,
  };
  const oci: OciSpec = {
    ociVersion: OCI_VERSION,
    process: buildProcess(input, { args: init ? [INIT_PATH, '--', ...args] : args, linkEnv: input.linkEnv }),
    root: { path: input.rootfsPath, readonly: host.readonlyRootfs },
    ...(host.utsMode === 'host' ? {} : { hostname: process.hostname }),
    mounts,
    ...(host.annotations === null ? {} : { annotations: host.annotations }),
    linux: {
      namespaces,
      ...idMappings(input),
      sysctl: decideSysctls(input, namespaces),
      cgroupsPath: ociCgroupsPath(cgroup),
      resources: { ...buildResources(host.resources, input.blockDevices), devices: rules },
      devices,
      ...(seccomp === null ? {} : { seccomp }),
      ...(rootfsPropagation === '' ? {} : { rootfsPropagation }),
      maskedPaths: paths.masked,
      readonlyPaths: paths.readonly,
    },
  };
  return applyCdiEdits(oci, input.cdiEdits);
}

interface OciIdMapping {
  readonly containerID: number;
  readonly hostID: number;
  readonly size: number;
}

function idMappings(input: OciInput): { uidMappings?: OciIdMapping[]; gidMappings?: OciIdMapping[] } {
  const ids = idsOf(input.spec.host, input.daemon);
  if (!isRemapped(ids)) return {};
  const oci = ({ containerId, hostId, count }: IdRange): OciIdMapping => ({
    containerID: containerId,
    hostID: hostId,
    size: count,
  });
  return { uidMappings: ids.uids.map(oci), gidMappings: ids.gids.map(oci) };
}

/** An init makes sense only as process 1 of a namespace of its own. */
function wantsInit(input: OciInput): boolean {
  const { init, pidMode } = input.spec.host;
  return pidMode === '' && (init ?? input.daemon.init);
}
