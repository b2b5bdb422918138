/**
 * What the request leaves open, the image fills in. Source: moby daemon/commit.go merge() and daemon/create.go
 * mergeAndVerifyConfig() (v28).
 */
import type { HealthcheckSpec, ProcessSpec } from '../core/container-spec.ts';
import { EngineError } from '../core/engine-error.ts';
import type { ImageConfig } from '../image/port.ts';

/** The settings that a request and an image have in common. */
export type Mergeable = Pick<
  ProcessSpec,
  | 'user' | 'exposedPorts' | 'env' | 'labels' | 'entrypoint' | 'cmd' | 'argsEscaped' | 'healthcheck' | 'workingDir'
  | 'volumes' | 'stopSignal' | 'shell'
>; // prettier-ignore

export function mergeConfig<Own extends Mergeable>(own: Own, image: Mergeable): Own {
  return {
    ...own,
    user: own.user || image.user,
    exposedPorts: union(own.exposedPorts, image.exposedPorts),
    env: mergeEnv(own.env, image.env),
    labels: { ...image.labels, ...own.labels },
    ...mergeCommand(own, image),
    healthcheck: mergeHealthcheck(own.healthcheck, image.healthcheck),
    workingDir: own.workingDir || image.workingDir,
    volumes: union(own.volumes, image.volumes),
    stopSignal: own.stopSignal || image.stopSignal || null,
    // moby forgets the image's SHELL here, so that its health checks never use it; ours do.
    shell: own.shell ?? image.shell,
  };
}

/** An image's config in the words of a request. */
export function fromImage(config: ImageConfig): Mergeable {
  return { ...config, labels: config.labels ?? {}, stopSignal: config.stopSignal || null };
}

/** --entrypoint "" means none, also when the image has one. @throws {EngineError} CONTAINER_SPEC_INVALID */
export function checkCommand(process: ProcessSpec): ProcessSpec {
  const reset = process.entrypoint?.length === 1 && process.entrypoint[0] === '';
  const entrypoint = reset ? null : process.entrypoint;
  if ((entrypoint?.length ?? 0) === 0 && (process.cmd?.length ?? 0) === 0) {
    throw new EngineError('CONTAINER_SPEC_INVALID', 'no command specified');
  }
  return { ...process, entrypoint };
}

/** Path and arguments as `docker inspect` shows them. Source: moby daemon/container.go getEntrypointAndArgs(). */
export function commandOf(process: Pick<ProcessSpec, 'entrypoint' | 'cmd'>): { path: string; arguments: string[] } {
  const [path = '', ...rest] = [...(process.entrypoint ?? []), ...(process.cmd ?? [])];
  return { path, arguments: rest };
}

/** An own entrypoint makes the image's command meaningless; an own command keeps the image's entrypoint. */
function mergeCommand(own: Mergeable, image: Mergeable): Pick<Mergeable, 'entrypoint' | 'cmd' | 'argsEscaped'> {
  const { entrypoint, cmd, argsEscaped } = own;
  if ((entrypoint?.length ?? 0) > 0) return { entrypoint, cmd, argsEscaped };
  const inherited = (cmd?.length ?? 0) === 0;
  return {
    // [] is a wish of its own: no entrypoint. Only null takes the image's.
    entrypoint: entrypoint ?? image.entrypoint,
    cmd: inherited ? image.cmd : cmd,
    argsEscaped: inherited ? image.argsEscaped : argsEscaped,
  };
}

/** The request's first and in its order, then what only the image names. */
function mergeEnv(own: readonly string[] | null, image: readonly string[] | null): readonly string[] | null {
  if (own === null || own.length === 0) return image;
  const named = new Set(own.map(nameOf));
  return [...own, ...(image ?? []).filter((entry) => !named.has(nameOf(entry)))];
}

function mergeHealthcheck(own: HealthcheckSpec | null, image: HealthcheckSpec | null): HealthcheckSpec | null {
  if (own === null || image === null) return own ?? image;
  return {
    test: (own.test?.length ?? 0) === 0 ? image.test : own.test,
    intervalNs: own.intervalNs || image.intervalNs,
    timeoutNs: own.timeoutNs || image.timeoutNs,
    startPeriodNs: own.startPeriodNs || image.startPeriodNs,
    startIntervalNs: own.startIntervalNs || image.startIntervalNs,
    retries: own.retries || image.retries,
  };
}

function union(own: readonly string[] | null, image: readonly string[] | null): readonly string[] | null {
  if (own === null || own.length === 0) return image;
  return [...new Set([...own, ...(image ?? [])])];
}

function nameOf(entry: string): string {
  const at = entry.indexOf('=');
  return at < 0 ? entry : entry.slice(0, at);
}
