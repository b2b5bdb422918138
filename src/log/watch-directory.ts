/** inotify on a directory: for followers and forwarders of logs. Never keeps the process alive. */
import { watch } from 'node:fs';

import { isMissing } from './missing.ts';

/** null: the directory is gone already; only a signal wakes then. */
export function watchDirectory(path: string, listener: (name: string | null) => void): { close(): void } | null {
  try {
    const watcher = watch(path, { persistent: false }, (_event, name) => listener(name));
    watcher.on('error', () => listener(null));
    return watcher;
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}
