/**
 * What dockerd checks of a HostConfig at create and update, and what it quietly takes away with a warning.
 * Source: moby daemon/daemon_unix.go verifyPlatformContainerSettings, daemon/container.go (v28).
 */
import type { HostSpec, ResourceSpec } from '../../core/container-spec.ts';
import { EngineError } from '../../core/engine-error.ts';
import { CAPABILITIES, normalizeCapabilities } from './capabilities.ts';
import { parseDeviceRule } from './devices.ts';
import { isInUserNamespace, type DaemonDefaults, type HostFacts } from './input.ts';
import { checkUlimit } from './rlimits.ts';
import { parseSeccompProfile } from './seccomp.ts';
import { checkSecurityModules, parseSecurityOptions } from './security-options.ts';
import { mergeTmpfsOptions } from './tmpfs-options.ts';
import { validateResources } from './validate-resources.ts';

/** The spec with what this kernel cannot do taken out, and a warning for each. */
export interface ValidatedHost {
  readonly host: HostSpec;
  readonly warnings: readonly string[];
}

/** @throws {EngineError} CONTAINER_SPEC_INVALID with Docker's words */
export function validateHostSpec(host: HostSpec, facts: HostFacts, daemon: DaemonDefaults): ValidatedHost {
  const { resources, warnings } = validateResources(host.resources, facts, { isUpdate: false });
  checkCapabilities(host, facts);
  checkModes(host);
  checkRemapped(host, daemon);
  checkRuntime(host, daemon);
  if (host.shmSizeBytes < 0) refuse('SHM size can not be less than 0');
  if (host.oomScoreAdj < -1000 || host.oomScoreAdj > 1000) {
    refuse(`Invalid value ${host.oomScoreAdj}, range for oom score adj is [-1000, 1000]`);
  }
  for (const limit of resources.ulimits ?? []) checkUlimit(limit);
  for (const rule of resources.deviceCgroupRules ?? []) parseDeviceRule(rule);
  for (const [path, options] of Object.entries(host.tmpfs ?? {})) checkTmpfs(path, options);
  checkCgroupParent(resources, daemon);
  refuseIsolation(host);

  const security = parseSecurityOptions(host.securityOpt, daemon);
  checkSecurityModules(security, facts);
  if (!['', 'unconfined', 'builtin'].includes(security.seccomp)) parseSeccompProfile(security.seccomp);

  const all = [...warnings];
  if (!facts.ipv4Forwarding && host.networkMode !== 'host' && host.networkMode !== 'none') {
    all.push('IPv4 forwarding is disabled. Networking will not work.');
  }
  if (host.networkMode === 'host' && Object.keys(host.portBindings ?? {}).length > 0) {
    all.push('Published ports are discarded when using host network mode');
  }
  if (host.cgroupnsMode === 'private' && !facts.cgroupNamespaces) {
    all.push('Your kernel does not support cgroup namespaces.  Cgroup namespace setting discarded.');
  }
  return { host: { ...host, resources }, warnings: all };
}

/**
 * What dockerd writes into a new container's HostConfig where nothing was asked; inspect shows it.
 * Source: moby daemon/daemon_unix.go adaptContainerSettings (v28).
 */
export function applyHostDefaults(host: HostSpec, facts: HostFacts, daemon: DaemonDefaults): HostSpec {
  const { resources } = host;
  const isMemoryOnly = resources.memoryBytes > 0 && resources.memorySwapBytes === 0;
  return {
    ...host,
    shmSizeBytes: host.shmSizeBytes === 0 ? daemon.shmSizeBytes : host.shmSizeBytes,
    ipcMode: host.ipcMode === '' ? daemon.ipcMode : host.ipcMode,
    cgroupnsMode: host.cgroupnsMode === '' ? defaultCgroupns(host, facts, daemon) : host.cgroupnsMode,
    runtime: host.runtime === '' ? daemon.defaultRuntime : host.runtime,
    securityOpt: withLabels(host),
    resources: {
      ...resources,
      memorySwapBytes: isMemoryOnly ? resources.memoryBytes * 2 : resources.memorySwapBytes,
      oomKillDisable: resources.oomKillDisable ?? (facts.limits.oomKillDisable ? false : null),
    },
  };
}

function defaultCgroupns(host: HostSpec, facts: HostFacts, daemon: DaemonDefaults): 'private' | 'host' {
  const isV2 = facts.cgroupVersion === 'v2';
  if (host.privileged && !isV2) return 'host';
  return daemon.cgroupnsMode === '' ? (isV2 ? 'private' : 'host') : daemon.cgroupnsMode;
}

/** Privileged containers and those that share the host's pids or IPC get no SELinux label. */
function withLabels(host: HostSpec): readonly string[] | null {
  const asked = host.securityOpt ?? [];
  const isLabelled = asked.some((option) => option.split('=')[0] === 'label');
  const needsNone = host.privileged || host.ipcMode === 'host' || host.pidMode === 'host';
  return !isLabelled && needsNone ? [...asked, 'label=disable'] : host.securityOpt;
}

function checkCapabilities(host: HostSpec, facts: HostFacts): void {
  const check = (field: string, names: readonly string[] | null, available: readonly string[]): void => {
    try {
      normalizeCapabilities(names ?? [], available);
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      throw new EngineError(error.code, `invalid ${field}: ${error.message}`, { cause: error });
    }
  };
  check('CapAdd', host.capAdd, facts.capabilities);
  check('CapDrop', host.capDrop, CAPABILITIES);
}

function checkModes(host: HostSpec): void {
  const isJoin = (mode: string): boolean => /^container:.+/.test(mode);
  const { ipcMode, pidMode, utsMode, usernsMode, cgroupnsMode } = host;
  if (!['', 'none', 'private', 'shareable', 'host'].includes(ipcMode) && !isJoin(ipcMode))
    refuse(`invalid IPC mode: ${ipcMode}`);
  if (!['', 'host'].includes(pidMode) && !isJoin(pidMode)) refuse(`invalid PID mode: ${pidMode}`);
  if (!['', 'host'].includes(utsMode)) refuse(`invalid UTS mode: ${utsMode}`);
  if (!['', 'host'].includes(usernsMode)) refuse(`invalid user namespace mode: ${usernsMode}`);
  if (!['', 'private', 'host'].includes(cgroupnsMode)) refuse(`invalid cgroup namespace mode: ${cgroupnsMode}`);
}

/** What needs the host's own user namespace. The words are moby's, with their two spaces. */
function checkRemapped(host: HostSpec, daemon: DaemonDefaults): void {
  if (!isInUserNamespace(host, daemon)) return;
  if (host.privileged) {
    refuse(
      'privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode',
    );
  }
  if (host.networkMode === 'host') refuse("cannot share the host's network namespace when user namespaces are enabled");
  if (host.pidMode === 'host') refuse('cannot share the host PID namespace when user namespaces are enabled');
}

function checkRuntime(host: HostSpec, daemon: DaemonDefaults): void {
  if (host.runtime !== '' && !daemon.runtimes.includes(host.runtime)) {
    throw new EngineError('RUNTIME_UNKNOWN', `unknown or invalid runtime name: ${host.runtime}`);
  }
}

function checkTmpfs(path: string, options: string): void {
  if (path === '' || !path.startsWith('/')) {
    refuse(`invalid mount path: '${path}' mount path must be absolute`);
  }
  if (path === '/') refuse("invalid specification: destination can't be '/'");
  mergeTmpfsOptions(options === '' ? [] : options.split(','));
}

function checkCgroupParent(resources: ResourceSpec, daemon: DaemonDefaults): void {
  const { cgroupParent } = resources;
  if (cgroupParent === '' || daemon.cgroupDriver !== 'systemd') return;
  if (cgroupParent.length <= '.slice'.length || !cgroupParent.endsWith('.slice')) {
    refuse('cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"');
  }
}

function refuseIsolation(host: HostSpec): void {
  if (!['', 'default'].includes(host.isolation.toLowerCase())) {
    refuse(`invalid isolation '${host.isolation}' on linux`);
  }
}

function refuse(message: string): never {
  throw new EngineError('CONTAINER_SPEC_INVALID', message);
}
