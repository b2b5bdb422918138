/** From what a user types to a container: full ID, then name (also of a link), then unique ID prefix. Source: moby daemon/container.go GetContainer (v28). */
import { EngineError } from '../core/engine-error.ts';
import type { Container } from '../lifecycle/container.ts';
import { linksOf } from './links.ts';
import type { ContainerLookup, Names } from './names.ts';

export class Resolver {
  readonly #containers: ContainerLookup;
  readonly #names: Names;

  constructor(containers: ContainerLookup, names: Names) {
    this.#containers = containers;
    this.#names = names;
  }

  /** @throws {EngineError} CONTAINER_NOT_FOUND, CONTAINER_ID_AMBIGUOUS */
  resolve(ref: string): Container {
    if (ref === '') throw new EngineError('PARAMETER_INVALID', 'invalid name or ID supplied: ""');
    const name = ref.startsWith('/') ? ref.slice(1) : ref;
    const container = this.#containers.get(ref) ?? this.#names.find(name) ?? this.#byLink(name);
    return container ?? this.#byPrefix(ref);
  }

  /** "web/db": what web knows as db. */
  #byLink(path: string): Container | undefined {
    const at = path.indexOf('/');
    const parent = at < 0 ? undefined : this.#names.find(path.slice(0, at));
    if (parent === undefined) return undefined;
    return linksOf(this.#containers, parent).find(({ alias }) => alias === path.slice(at + 1))?.child;
  }

  /** As resolve(), undefined for what is not there or not unique. */
  tryResolve(ref: string): Container | undefined {
    try {
      return this.resolve(ref);
    } catch (error) {
      if (error instanceof EngineError) return undefined;
      throw error;
    }
  }

  #byPrefix(prefix: string): Container {
    const matches = this.#containers.list().filter((container) => container.id.startsWith(prefix));
    if (matches.length > 1) {
      throw new EngineError('CONTAINER_ID_AMBIGUOUS', `multiple IDs found with provided prefix: ${prefix}`);
    }
    const [only] = matches;
    if (only === undefined) throw new EngineError('CONTAINER_NOT_FOUND', `No such container: ${prefix}`);
    return only;
  }
}
