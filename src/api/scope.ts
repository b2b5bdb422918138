/**
 * What a listener with a scope serves. Docker's socket is all or nothing, and whoever may write to it is root on the
 * host; a scoped one only reads, or only knows the containers that bear a label, or both. What is not in the tables below
 * is refused, so a route that is added later is closed until somebody decides about it. docs/access.md is for users.
 */
import type { Containers } from '../container/port.ts';
import { EngineError } from '../core/engine-error.ts';
import type { EngineParts } from './port.ts';
import type { AnyRoute } from './route.ts';

export interface Scope {
  readonly readOnly: boolean;
  /** Containers without it do not exist for this listener. `value` null: whatever its value. */
  readonly label: { readonly name: string; readonly value: string | null } | null;
}

/** About the engine as such; nobody's secret. */
const OPEN = ['GET /_ping', 'HEAD /_ping', 'GET /version'];

/** They filter what they tell by the scope. */
const LISTS = ['GET /containers/json', 'GET /events'];

/** Of one container or exec, and nothing changes by it: {name} or {id} says which. */
const CONTAINER_READS = [
  'GET /containers/{name}/json',
  'GET /containers/{name}/why',
  'GET /containers/{name}/logs',
  'GET /containers/{name}/top',
  'GET /containers/{name}/stats',
  'GET /containers/{name}/changes',
  'GET /containers/{name}/export',
  'GET /containers/{name}/archive',
  'HEAD /containers/{name}/archive',
  'POST /containers/{name}/wait',
  'GET /exec/{id}/json',
];

/** What a container's user may do to it without reaching beyond it. Not update and rename: limits and names are others' concern. */
const CONTAINER_WRITES = [
  'POST /containers/{name}/start',
  'POST /containers/{name}/stop',
  'POST /containers/{name}/restart',
  'POST /containers/{name}/kill',
  'POST /containers/{name}/pause',
  'POST /containers/{name}/unpause',
  'POST /containers/{name}/resize',
  'POST /containers/{name}/attach',
  'GET /containers/{name}/attach/ws',
  'PUT /containers/{name}/archive',
  'DELETE /containers/{name}',
  'POST /containers/{name}/exec',
  'POST /exec/{id}/start',
  'POST /exec/{id}/resize',
];

/** Of the whole engine: for read-only listeners without a label. */
const ENGINE_READS = [
  'GET /info',
  'GET /system/df',
  'GET /images/json',
  'GET /images/{name}/json',
  'GET /images/{name}/history',
  'GET /images/{name}/get',
  'GET /images/get',
  'GET /networks',
  'GET /networks/',
  'GET /networks/{id}',
  'GET /volumes',
  'GET /volumes/{name}',
];

/** Every route that some scope serves, as "METHOD path": a test holds it against the routes that there are. */
export const SCOPED_ROUTES: readonly string[] = [
  ...OPEN,
  ...LISTS,
  ...CONTAINER_READS,
  ...CONTAINER_WRITES,
  ...ENGINE_READS,
];

/** One listener's guard. */
export class Guard {
  readonly #scope: Scope;
  readonly #allowed: ReadonlySet<string>;
  readonly #parts: EngineParts;
  /** The engine as this listener sees it. */
  readonly parts: EngineParts;

  constructor(scope: Scope, parts: EngineParts) {
    this.#scope = scope;
    this.#allowed = new Set([
      ...OPEN,
      ...LISTS,
      ...CONTAINER_READS,
      ...(scope.readOnly ? [] : CONTAINER_WRITES),
      ...(scope.label === null ? ENGINE_READS : []),
    ]);
    this.#parts = parts;
    this.parts = scope.label === null ? parts : withinLabel(parts, scope.label);
  }

  /**
   * The parameters to serve the route with: a container is named by its ID from here on, so that it cannot become
   * another one by a rename in between.
   * @throws SCOPE_FORBIDDEN; CONTAINER_NOT_FOUND, EXEC_NOT_FOUND as if it did not exist
   */
  admit(
    { method, path }: Pick<AnyRoute, 'method' | 'path'>,
    params: Readonly<Record<string, string>>,
  ): Readonly<Record<string, string>> {
    if (!this.#allowed.has(`${method} ${path}`))
      throw new EngineError(
        'SCOPE_FORBIDDEN',
        `${method} ${path} is not served here: this socket ${scopeText(this.#scope)}`,
      );
    if (this.#scope.label === null) return params;
    if (params['name'] !== undefined) return { ...params, name: this.#container(params['name']) };
    if (params['id'] !== undefined) this.#exec(params['id']);
    return params;
  }

  #container(ref: string): string {
    const { id, spec } = this.#parts.containers.resolve(ref);
    if (!bears(spec.process.labels, this.#scope.label!))
      throw new EngineError('CONTAINER_NOT_FOUND', `No such container: ${ref}`);
    return id;
  }

  #exec(id: string): void {
    const { exec } = this.#parts.containers.execInspect(id);
    try {
      this.#container(exec.containerId);
    } catch (error) {
      throw new EngineError('EXEC_NOT_FOUND', `No such exec instance: ${id}`, { cause: error });
    }
  }
}

/** "is read-only", "is limited to containers with the label team=ci, and read-only". */
export function scopeText({ readOnly, label }: Scope): string {
  if (label === null) return 'is read-only';
  const text = label.value === null ? label.name : `${label.name}=${label.value}`;
  return `is limited to containers with the label ${text}${readOnly ? ', and read-only' : ''}`;
}

function bears(labels: Readonly<Record<string, string>>, { name, value }: NonNullable<Scope['label']>): boolean {
  return Object.hasOwn(labels, name) && (value === null || labels[name] === value);
}

/** What spans containers tells of those with the label alone. */
function withinLabel(parts: EngineParts, label: NonNullable<Scope['label']>): EngineParts {
  const filter = label.value === null ? label.name : `${label.name}=${label.value}`;
  const { containers, events } = parts;
  const narrowed: Pick<Containers, 'list' | 'execCreate'> = {
    list: ({ filters, ...options }) =>
      containers.list({
        ...options,
        filters: new Map([...filters, ['label', [...(filters.get('label') ?? []), filter]]]),
      }),
    execCreate: async (ref, config, by) => {
      if (config.privileged)
        throw new EngineError(
          'SCOPE_FORBIDDEN',
          'privileged execs are not served here: they reach beyond the container',
        );
      return await containers.execCreate(ref, config, by);
    },
  };
  return {
    ...parts,
    containers: { ...containers, ...narrowed },
    events: {
      publish: (event) => events.publish(event),
      subscribe: (options) =>
        events.subscribe({
          ...options,
          matches: (event) =>
            event.type === 'container' && bears(event.actor.attributes, label) && options.matches(event),
        }),
    },
  };
}

/**
 * --scoped-host: a listener, then what limits it: "unix:///run/ro.sock,read-only",
 * "unix:///run/ci.sock,label=team=ci,group=ci". @throws PARAMETER_INVALID
 */
export function parseScopedHost(text: string): {
  readonly host: string;
  readonly scope: Scope;
  /** null: the daemon's. */
  readonly group: string | null;
} {
  const [host = '', ...limits] = text.split(',');
  const wrong = (why: string): EngineError => new EngineError('PARAMETER_INVALID', `--scoped-host ${text}: ${why}`);
  let readOnly = false;
  let label: Scope['label'] = null;
  let group: string | null = null;
  for (const limit of limits) {
    const [key = '', ...rest] = limit.split('=');
    const value = rest.join('=');
    if (limit === 'read-only') readOnly = true;
    else if (key === 'label' && value !== '' && label === null) label = parseLabel(value);
    else if (key === 'group' && value !== '') group = value;
    else throw wrong(`${limit} is none of read-only, label=NAME[=VALUE] (once), group=NAME`);
  }
  if (!readOnly && label === null) throw wrong('what limits it is missing: read-only, label=NAME[=VALUE]');
  return { host, scope: { readOnly, label }, group };
}

function parseLabel(text: string): Scope['label'] {
  const at = text.indexOf('=');
  return at < 0 ? { name: text, value: null } : { name: text.slice(0, at), value: text.slice(at + 1) };
}
