/**
 * Who has which name. A name is held from before its container's record exists until after it is gone, so that two
 * creations never share one. Source: moby daemon/names.go (v28).
 */
import { EngineError } from '../core/engine-error.ts';
import { newId, shortId } from '../core/id.ts';
import type { Container } from '../lifecycle/container.ts';
import { randomName } from './random-name.ts';

const ATTEMPTS = 6;
const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/;

/** The part of the supervisor that knows containers. */
export interface ContainerLookup {
  get(id: string): Container | undefined;
  list(): readonly Container[];
}

export class Names {
  readonly #containers: ContainerLookup;
  /** Beside what the records say: names of containers in the making, and of renames under way. */
  readonly #reserved = new Map<string, string>();
  /** What a lookup found before; believed only while the record still says so. */
  readonly #found = new Map<string, string>();

  constructor(containers: ContainerLookup) {
    this.#containers = containers;
  }

  /** The ID of the container that has this name (no slash), or is about to; undefined when it is free. */
  holder(name: string): string | undefined {
    return this.#reserved.get(name) ?? this.find(name)?.id;
  }

  find(name: string): Container | undefined {
    const known = this.#found.get(name);
    if (known !== undefined) {
      const container = this.#containers.get(known);
      if (container?.name === name) return container;
      this.#found.delete(name);
    }
    const container = this.#containers.list().find((one) => one.name === name);
    if (container !== undefined) this.#found.set(name, container.id);
    return container;
  }

  /**
   * `name` is as the client sent it; "" makes one up. The reservation ends when the result is disposed: by then either
   * the record holds the name or nothing does.
   * @throws {EngineError} CONTAINER_NAME_INVALID, CONTAINER_NAME_TAKEN
   */
  reserve(name: string, id: string): Disposable & { readonly name: string } {
    if (name === '') return this.#hold(this.#makeUp(id), id);
    const bare = checkName(name);
    const holder = this.holder(bare);
    if (holder !== undefined) throw nameTaken(bare, holder);
    return this.#hold(bare, id);
  }

  /** A container is gone. */
  forget(name: string): void {
    this.#found.delete(name);
  }

  #makeUp(id: string): string {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const name = randomName(attempt);
      if (this.holder(name) === undefined) return name;
    }
    const name = shortId(id);
    return this.holder(name) === undefined ? name : shortId(newId());
  }

  #hold(name: string, id: string): Disposable & { readonly name: string } {
    this.#reserved.set(name, id);
    return { name, [Symbol.dispose]: () => void this.#reserved.delete(name) };
  }
}

/** Without the leading slash that Docker shows. @throws {EngineError} CONTAINER_NAME_INVALID */
export function checkName(name: string): string {
  const bare = name.startsWith('/') ? name.slice(1) : name;
  if (!NAME.test(bare)) {
    const message = `Invalid container name (${name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`;
    throw new EngineError('CONTAINER_NAME_INVALID', message);
  }
  return bare;
}

function nameTaken(name: string, holder: string): EngineError {
  return new EngineError(
    'CONTAINER_NAME_TAKEN',
    `Conflict. The container name "/${name}" is already in use by container "${holder}". ` +
      'You have to remove (or rename) that container to be able to reuse that name.',
  );
}
