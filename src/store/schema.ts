/** The tables, and how older ones become today's. Each step runs once, in a transaction, in order. */
import type { DatabaseSync } from 'node:sqlite';

import { EngineError } from '../core/engine-error.ts';

const STEPS: readonly string[] = [
  `CREATE TABLE record (
     id INTEGER PRIMARY KEY, -- order of insertion
     collection TEXT NOT NULL, key TEXT NOT NULL, json TEXT NOT NULL,
     UNIQUE (collection, key));
   CREATE TABLE set_aside (
     collection TEXT NOT NULL, key TEXT NOT NULL, json TEXT NOT NULL, why TEXT NOT NULL, at TEXT NOT NULL);
   CREATE TABLE event (
     sequence INTEGER PRIMARY KEY, time_ns INTEGER NOT NULL, json TEXT NOT NULL);
   CREATE INDEX event_time ON event (time_ns);`,
  `CREATE TABLE history (
     sequence INTEGER PRIMARY KEY AUTOINCREMENT, -- never used twice, also when the last row was deleted
     key TEXT NOT NULL, time_ns INTEGER NOT NULL, json TEXT NOT NULL);
   CREATE INDEX history_key ON history (key, sequence);
   CREATE TABLE history_closed (key TEXT PRIMARY KEY, label TEXT NOT NULL, time_ns INTEGER NOT NULL);`,
];

export const SCHEMA_VERSION = STEPS.length;

/** @throws {EngineError} STORE_FAILED when the file was written by a newer Longshore. */
export function migrate(database: DatabaseSync): void {
  const { user_version: version } = database.prepare('PRAGMA user_version').get() as { user_version: number };
  if (version > STEPS.length) {
    throw new EngineError(
      'STORE_FAILED',
      `the records were written by a newer version (schema ${version}, this one knows ${STEPS.length})`,
    );
  }
  for (let step = version; step < STEPS.length; step++) {
    database.exec(`BEGIN; ${STEPS[step]}; PRAGMA user_version = ${step + 1}; COMMIT`);
  }
}
