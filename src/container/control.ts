/** Requests that change a container's state: the supervisor decides and performs; here they get Docker's wording. */
import { EngineError } from '../core/engine-error.ts';
import { parseSignal } from '../core/signal.ts';
import type { Cause, Container } from '../lifecycle/container.ts';
import type { StopOptions } from '../lifecycle/event.ts';
import { parseLink } from './check-spec.ts';
import type { Parts } from './parts.ts';
import type { Request } from './port.ts';
import { inWordsOf } from './refused.ts';

export function causeOf(by: Request): Cause {
  return { actor: 'api', detail: by.description };
}

export async function stop(
  parts: Parts,
  ref: string,
  options: StopOptions<string>,
  by: Request,
): Promise<'stopped' | 'already-stopped'> {
  const { id } = parts.resolver.resolve(ref);
  return inContext(`cannot stop container: ${ref}`, async () =>
    parts.supervisor.stop(id, parsed(options), causeOf(by)),
  );
}

export async function restart(parts: Parts, ref: string, options: StopOptions<string>, by: Request): Promise<void> {
  const { id } = parts.resolver.resolve(ref);
  await inContext(`Cannot restart container ${ref}`, async () =>
    parts.supervisor.restart(id, parsed(options), causeOf(by)),
  );
}

export async function kill(parts: Parts, ref: string, signal: string, by: Request): Promise<void> {
  await inContext(`cannot kill container: ${ref}`, async () => {
    // A name that is none is refused before the container is looked for, a number that is none after.
    const number = /^\d+$/.test(signal) ? null : parseSignal(signal === '' ? 'KILL' : signal);
    const { id } = parts.resolver.resolve(ref);
    await parts.supervisor.kill(id, number ?? parseSignal(signal), causeOf(by));
  });
}

/** Source: moby daemon/rename.go (v28). */
export async function rename(parts: Parts, ref: string, name: string, by: Request): Promise<void> {
  if (ref === '' || name === '') {
    throw new EngineError('PARAMETER_INVALID', 'Neither old nor new names may be empty');
  }
  const container = parts.resolver.resolve(ref);
  if (container.name === (name.startsWith('/') ? name.slice(1) : name)) {
    const message = 'Renaming a container with the same name as its current name';
    throw new EngineError('PARAMETER_INVALID', message);
  }
  using reserved = reserveFor(parts, container, name);
  await parts.supervisor.rename(container.id, reserved.name, causeOf(by));
  parts.names.forget(container.name);
  parts.networks.renamed(container.id, reserved.name);
}

function reserveFor(parts: Parts, container: Container, name: string): ReturnType<Parts['names']['reserve']> {
  try {
    return parts.names.reserve(name.startsWith('/') ? name : `/${name}`, container.id); // as moby's message has it
  } catch (error) {
    throw inWordsOf('Error when allocating new name', error);
  }
}

/** `link`: only the name under which one container knows another goes, "/web/db". Source: moby daemon/delete.go rmLink (v28). */
export async function remove(
  parts: Parts,
  ref: string,
  options: { readonly force: boolean; readonly volumes: boolean; readonly link: boolean },
  by: Request,
): Promise<void> {
  if (options.link) return removeLink(parts, ref, by);
  const { id } = parts.resolver.resolve(ref);
  await parts.supervisor.remove(id, { force: options.force, volumes: options.volumes }, causeOf(by));
}

async function removeLink(parts: Parts, ref: string, by: Request): Promise<void> {
  parts.resolver.resolve(ref);
  const path = ref.startsWith('/') ? ref.slice(1) : ref;
  const at = path.indexOf('/');
  if (at < 0) {
    throw new EngineError('CONTAINER_NAME_TAKEN', 'Conflict, cannot remove the default link name of the container');
  }
  const parent = parts.resolver.resolve(path.slice(0, at));
  const alias = path.slice(at + 1);
  const kept = (parent.spec.host.links ?? []).filter((link) => parseLink(link).alias !== alias);
  await parts.supervisor.amend(
    parent.id,
    ({ spec, mounts }) => ({ spec: { ...spec, host: { ...spec.host, links: kept } }, mounts }),
    causeOf(by),
  );
  await parts.networks.unlink(parent.id, alias);
}

function parsed(options: StopOptions<string>): StopOptions {
  const { signal, timeoutS } = options;
  return { signal: signal === null || signal === '' ? null : parseSignal(signal), timeoutS };
}

async function inContext<T>(prefix: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw inWordsOf(prefix, error);
  }
}
