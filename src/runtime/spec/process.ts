/** The OCI process object: of a container's first process, and of an exec. Source: moby daemon/exec_linux.go, container/env.go (v28). */
import type { ContainerSpec, ProcessSpec } from '../../core/container-spec.ts';
import { decideCapabilities, ociCapabilities } from './capabilities.ts';
import type { DaemonDefaults, HostFacts, ResolvedUser } from './input.ts';
import { decideRlimits, type OciRlimit } from './rlimits.ts';
import { apparmorProfile } from './apparmor.ts';
import { parseSecurityOptions } from './security-options.ts';

const DEFAULT_PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export interface OciProcess {
  readonly terminal: boolean;
  readonly consoleSize?: { readonly height: number; readonly width: number };
  readonly user: { readonly uid: number; readonly gid: number; readonly additionalGids: readonly number[] };
  readonly args: readonly string[];
  readonly env: readonly string[];
  readonly cwd: string;
  readonly capabilities: object;
  readonly rlimits?: readonly OciRlimit[];
  readonly noNewPrivileges: boolean;
  readonly apparmorProfile?: string;
  readonly oomScoreAdj?: number;
}

/** entrypoint and cmd; empty when the container has no command. */
export function effectiveArgs(process: ProcessSpec): string[] {
  return [...(process.entrypoint ?? []), ...(process.cmd ?? [])];
}

/** Docker's own variables below the user's; "NAME" alone removes one. HOME comes from passwd, as runc has it. */
export function effectiveEnv(process: ProcessSpec, linkEnv: readonly string[], home: string): string[] {
  const own = [
    DEFAULT_PATH,
    ...(process.hostname === '' ? [] : [`HOSTNAME=${process.hostname}`]),
    ...(process.tty ? ['TERM=xterm'] : []),
    ...linkEnv,
  ];
  return withHome(replaceEnv(own, process.env ?? []), home);
}

/** moby container/env.go ReplaceOrAppendEnvValues */
export function replaceEnv(defaults: readonly string[], overrides: readonly string[]): string[] {
  const env: (string | null)[] = [...defaults];
  const indexByName = new Map(defaults.map((entry, i) => [nameOf(entry), i]));
  for (const entry of overrides) {
    const index = indexByName.get(nameOf(entry));
    if (!entry.includes('=')) {
      if (index !== undefined) env[index] = null;
    } else if (index === undefined) {
      env.push(entry); // two of one name are both kept, as Docker keeps them
    } else {
      env[index] = entry;
    }
  }
  return env.filter((entry) => entry !== null);
}

/** What a process of the container needs to know of it. */
export interface ProcessContext {
  readonly spec: ContainerSpec;
  readonly user: ResolvedUser;
  readonly host: HostFacts;
  readonly daemon: DaemonDefaults;
}

export function buildProcess(
  context: ProcessContext,
  options: { readonly args: readonly string[]; readonly linkEnv: readonly string[] },
): OciProcess {
  const { process, host } = context.spec;
  const rlimits = decideRlimits(host.resources.ulimits, context.daemon.ulimits);
  return {
    terminal: process.tty,
    ...consoleSize(host.consoleSize),
    user: ociUser(context.user),
    args: options.args,
    env: effectiveEnv(process, options.linkEnv, context.user.home),
    cwd: process.workingDir === '' ? '/' : process.workingDir,
    capabilities: ociCapabilities(capabilitiesOf(context, host.privileged), context.user.uid),
    ...(rlimits.length === 0 ? {} : { rlimits }),
    ...confinement(context),
    oomScoreAdj: host.oomScoreAdj,
  };
}

/** A further process. The user's variables come after the container's; `--privileged` is for this process alone. */
export function buildExecProcess(
  context: ProcessContext,
  exec: {
    readonly args: readonly string[];
    readonly env: readonly string[] | null;
    /** "" is the container's. */
    readonly workingDir: string;
    readonly tty: boolean;
    readonly privileged: boolean;
    /** Of legacy links. */
    readonly linkEnv: readonly string[];
    readonly consoleSize: readonly [rows: number, columns: number] | null;
  },
): OciProcess {
  const { process, host } = context.spec;
  // TERM follows the exec's terminal and not the container's.
  const containerEnv = effectiveEnv({ ...process, tty: exec.tty }, exec.linkEnv, context.user.home);
  const rlimits = decideRlimits(host.resources.ulimits, context.daemon.ulimits);
  const privileged = exec.privileged || host.privileged;
  return {
    terminal: exec.tty,
    ...(exec.consoleSize === null ? {} : consoleSize(exec.consoleSize)),
    user: ociUser(context.user),
    args: exec.args,
    env: replaceEnv(containerEnv, exec.env ?? []),
    cwd: exec.workingDir || process.workingDir || '/',
    capabilities: ociCapabilities(capabilitiesOf(context, privileged), context.user.uid),
    ...(rlimits.length === 0 ? {} : { rlimits }),
    ...confinement(context),
    // runc takes that of the container's process; crun leaves the shim's where nothing is said.
    oomScoreAdj: host.oomScoreAdj,
  };
}

/** What the seccomp profile and the process agree on. */
export function capabilitiesOf(context: ProcessContext, privileged: boolean): string[] {
  const { capAdd, capDrop } = context.spec.host;
  return decideCapabilities({ add: capAdd, drop: capDrop, privileged, available: context.host.capabilities });
}

/** An exec's, too: its `--privileged` changes neither, as in Docker. */
function confinement({
  spec: { host: asked },
  host,
  daemon,
}: ProcessContext): Pick<OciProcess, 'noNewPrivileges' | 'apparmorProfile'> {
  const security = parseSecurityOptions(asked.securityOpt, daemon);
  const profile = host.apparmor ? apparmorProfile(security.apparmor, asked.privileged) : '';
  return { noNewPrivileges: security.noNewPrivileges, ...(profile === '' ? {} : { apparmorProfile: profile }) };
}

function ociUser(user: ResolvedUser): OciProcess['user'] {
  return { uid: user.uid, gid: user.gid, additionalGids: user.additionalGids };
}

function consoleSize([height, width]: readonly [number, number]): Pick<OciProcess, 'consoleSize'> {
  return height > 0 && width > 0 ? { consoleSize: { height, width } } : {};
}

function withHome(env: readonly string[], home: string): string[] {
  return env.some((entry) => entry.startsWith('HOME=')) ? [...env] : [...env, `HOME=${home}`];
}

function nameOf(entry: string): string {
  const at = entry.indexOf('=');
  return at < 0 ? entry : entry.slice(0, at);
}
