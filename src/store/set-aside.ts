/** For `doctor --repair`, with the daemon down: forgets one record that was set aside. */
import { DatabaseSync } from 'node:sqlite';

export function dropSetAside(path: string, collection: string, key: string): void {
  const database = new DatabaseSync(path);
  try {
    database.exec('PRAGMA busy_timeout=2000');
    database.prepare('DELETE FROM set_aside WHERE collection = ? AND key = ?').run(collection, key);
  } finally {
    database.close();
  }
}
