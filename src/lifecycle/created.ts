/** A container as it is made, and the check of one that was read from disk. */
import type { Cause, Container, State } from './container.ts';

/** Wanted nowhere yet, never ran. */
export function created(
  given: Pick<Container, 'id' | 'name' | 'createdAt' | 'spec' | 'imageId' | 'mounts'> & { readonly cause: Cause },
): Container {
  return {
    ...given,
    intent: { wanted: 'stop', stoppedByUser: false },
    state: { at: 'created' },
    run: 0,
    restartCount: 0,
    lastDelayMs: 0,
    health: null,
  };
}

/** What each state cannot be without. */
const STATE_FIELDS: Record<State['at'], Readonly<Record<string, string>>> = {
  created: {},
  starting: { byPolicy: 'boolean' },
  running: { pid: 'number', startedAt: 'string', oomKilled: 'boolean' },
  paused: { pid: 'number', startedAt: 'string', oomKilled: 'boolean' },
  stopping: { pid: 'number', startedAt: 'string', oomKilled: 'boolean', phase: 'string', paused: 'boolean' },
  restarting: { exit: 'object', dueAt: 'string' },
  exited: { exit: 'object' },
  removing: {},
  dead: { why: 'string' },
};

const FIELDS: Readonly<Record<string, string>> = {
  id: 'string',
  name: 'string',
  createdAt: 'string',
  imageId: 'string',
  spec: 'object',
  mounts: 'object',
  intent: 'object',
  state: 'object',
  cause: 'object',
  run: 'number',
  restartCount: 'number',
  lastDelayMs: 'number',
};

/** For Store.collection(): throws a sentence on what the supervisor could not work with. */
export function decodeContainer(value: unknown): Container {
  const record = fields(value, 'record', FIELDS);
  const spec = fields(record['spec'], 'spec', { process: 'object', host: 'object', endpoints: 'object' });
  const host = fields(spec['host'], 'spec.host', { restartPolicy: 'object', autoRemove: 'boolean' });
  const policy = fields(host['restartPolicy'], 'restartPolicy', { name: 'string', maximumRetryCount: 'number' });
  oneOf(policy['name'], 'restartPolicy.name', ['no', 'always', 'unless-stopped', 'on-failure']);
  const intent = fields(record['intent'], 'intent', { wanted: 'string', stoppedByUser: 'boolean' });
  oneOf(intent['wanted'], 'intent.wanted', ['run', 'stop', 'remove']);
  const { at } = fields(record['state'], 'state', { at: 'string' });
  oneOf(at, 'state.at', Object.keys(STATE_FIELDS));
  const state = fields(record['state'], `state "${String(at)}"`, STATE_FIELDS[at as State['at']]);
  if (state['exit'] !== undefined && state['exit'] !== null) {
    fields(state['exit'], 'state.exit', { code: 'number', error: 'string', startedAt: 'string', finishedAt: 'string' });
  }
  if (!Array.isArray(record['mounts'])) throw new Error('mounts is no list');
  return value as Container;
}

function fields(value: unknown, name: string, types: Readonly<Record<string, string>>): Record<string, unknown> {
  if (typeof value !== 'object' || value === null) throw new Error(`${name} is missing`);
  const record = value as Record<string, unknown>;
  for (const [field, type] of Object.entries(types)) {
    if (typeof record[field] !== type || record[field] === null) throw new Error(`${name} has no ${field} (${type})`);
  }
  return record;
}

function oneOf(value: unknown, name: string, allowed: readonly string[]): void {
  if (!allowed.includes(String(value))) throw new Error(`${name} is ${JSON.stringify(value)}`);
}
