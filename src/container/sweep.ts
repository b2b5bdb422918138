/** At boot: directories of containers whose creation a crash cut short before there was a record. */
import { readdir } from 'node:fs/promises';
import { posix } from 'node:path';

import { messageOf } from '../core/engine-error.ts';
import type { Logger } from '../core/log.ts';
import { containerDirectory } from './details.ts';

/** `known`: containers that are, also those whose record cannot be read. */
export async function sweepDirectories({
  dataRoot,
  known,
  removeTree,
  logger,
}: {
  readonly dataRoot: string;
  readonly known: ReadonlySet<string>;
  readonly removeTree: (path: string) => Promise<void>;
  readonly logger: Logger;
}): Promise<void> {
  const names = await readdir(posix.join(dataRoot, 'containers')).catch(() => []); // the first start: there are none
  for (const name of names) {
    if (known.has(name) || !/^[0-9a-f]{64}$/.test(name)) continue;
    try {
      await removeTree(containerDirectory(dataRoot, name));
    } catch (error) {
      logger.warn({ container: name, error: messageOf(error) }, 'a left-over directory could not be removed');
    }
  }
}
