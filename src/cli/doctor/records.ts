/**
 * The engine's records as they are on disk, read only and without the daemon: what doctor compares the host with. Reading
 * does not set anything aside: what cannot be read is a problem here.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';

import { EngineError, messageOf } from '../../core/engine-error.ts';
import { decodeContainer } from '../../lifecycle/created.ts';
import type { Container } from '../../lifecycle/container.ts';
import { isLive } from '../../lifecycle/state.ts';
import { decodeNetwork, decodeSandbox, type NetworkRecord, type SandboxRecord } from '../../network/records.ts';
import type { SetAside, Store } from '../../store/port.ts';
import { SCHEMA_VERSION } from '../../store/schema.ts';

/** What the records say of a container's ID. */
export type Standing =
  /** A record that cannot be read names it: it may be anything. */
  | 'set-aside'
  /** It has, or may have, a process and all that belongs to it. */
  | 'live'
  /** It exists, and nothing of it should be but its directories. */
  | 'at-rest'
  /** This engine had it, and removed it. */
  | 'removed'
  | 'unknown';

export interface Records {
  readonly containers: ReadonlyMap<string, Container>;
  readonly networks: readonly NetworkRecord[];
  readonly sandboxes: readonly SandboxRecord[];
  readonly snapshotNames: ReadonlySet<string>;
  readonly volumeNames: ReadonlySet<string>;
  readonly setAside: readonly SetAside[];
  /** Records in place that cannot be read: the daemon would set them aside at its next start. */
  readonly unreadable: readonly { readonly collection: string; readonly key: string; readonly why: string }[];
  standing(id: string): Standing;
  /** A container of this engine, now or earlier: whoever else shares the host has others. */
  isOurs(id: string): boolean;
}

export function databasePath(dataRoot: string): string {
  return join(dataRoot, 'longshore.db');
}

/** @throws {EngineError} STORE_FAILED when there is none, or it is of a newer version */
export function readRecords(dataRoot: string): Records {
  const path = databasePath(dataRoot);
  if (!existsSync(path)) throw new EngineError('STORE_FAILED', `no engine has its records in ${dataRoot} (no ${path})`);
  const database = new DatabaseSync(path, { readOnly: true });
  try {
    database.exec('PRAGMA busy_timeout=5000; BEGIN');
    return recordsOf(database);
  } finally {
    database.close();
  }
}

function recordsOf(database: DatabaseSync): Records {
  const { user_version: version } = database.prepare('PRAGMA user_version').get() as { user_version: number };
  if (version > SCHEMA_VERSION) {
    throw new EngineError('STORE_FAILED', `the records were written by a newer Longshore (schema ${version})`);
  }
  const unreadable: { collection: string; key: string; why: string }[] = [];
  const load = <T>(collection: string, decode: (value: unknown) => T): Map<string, T> => {
    const found = new Map<string, T>();
    for (const { key, json } of rows(database, collection)) {
      try {
        found.set(key, decode(JSON.parse(json)));
      } catch (error) {
        unreadable.push({ collection, key, why: messageOf(error) });
      }
    }
    return found;
  };
  const containers = load('containers', decodeContainer);
  const setAside = database
    .prepare('SELECT collection, key, why, at FROM set_aside ORDER BY rowid')
    .all() as unknown as SetAside[];
  const networks = [...load('networks', decodeNetwork).values()];
  const sandboxes = [...load('network-sandboxes', decodeSandbox).values()];
  const aside = new Set(
    [...setAside, ...unreadable].filter(({ collection }) => collection === 'containers').map(({ key }) => key),
  );
  const earlier = version < 2 ? new Set<string>() : earlierIds(database);
  return {
    containers,
    networks,
    sandboxes,
    snapshotNames: new Set(rows(database, 'snapshots').map(({ key }) => key)),
    volumeNames: new Set(rows(database, 'volumes').map(({ key }) => key)),
    setAside,
    unreadable,
    standing(id) {
      const container = containers.get(id);
      if (container !== undefined) return isAtRest(container) ? 'at-rest' : 'live';
      if (aside.has(id)) return 'set-aside';
      return earlier.has(id) ? 'removed' : 'unknown';
    },
    isOurs: (id) => containers.has(id) || aside.has(id) || earlier.has(id),
  };
}

function isAtRest({ state, held }: Container): boolean {
  return !isLive(state) && state.at !== 'starting' && state.at !== 'removing' && held !== true;
}

/** Of containers that were: out of the journals. */
function earlierIds(database: DatabaseSync): Set<string> {
  const told = database
    .prepare(
      `SELECT DISTINCT key AS id FROM history UNION SELECT key FROM history_closed
       UNION SELECT DISTINCT json_extract(json, '$.actor.id') FROM event WHERE json LIKE '{"type":"container"%'`,
    )
    .all() as unknown as { id: string }[];
  return new Set(told.map(({ id }) => id));
}

function rows(database: DatabaseSync, collection: string): { key: string; json: string }[] {
  return database
    .prepare('SELECT key, json FROM record WHERE collection = ? ORDER BY id')
    .all(collection) as unknown as {
    key: string;
    json: string;
  }[];
}

/** Snapshots that a container has: its top, and one for each image mount. */
export function snapshotOwner(name: string): string {
  return name.replace(/\.image\.\d+$/, '');
}

/** A Store for rooms that only read. */
export function readOnlyStore(dataRoot: string): Store {
  const refuse = (): never => {
    throw new Error('doctor only reads');
  };
  const database = new DatabaseSync(databasePath(dataRoot), { readOnly: true });
  return {
    collection: (name, decode) => ({
      load: () => {
        const found = new Map<string, ReturnType<typeof decode>>();
        for (const { key, json } of rows(database, name)) {
          try {
            found.set(key, decode(JSON.parse(json)));
          } catch {
            // Named by readRecords().
          }
        }
        return found;
      },
      put: refuse,
      delete: refuse,
    }),
    journal: { append: refuse, read: () => [], lastSequence: () => 0 },
    history: { append: refuse, read: () => [], close: refuse, closed: () => [] },
    setAside: () => [],
    [Symbol.asyncDispose]: async () => database.close(),
  };
}
