/**
 * Boot: every room is told which containers there are and which may be alive, in the order in which they need each
 * other; last the supervisor asks the runtime what is true and decides.
 */
import { snapshotsOf } from '../container/start-mounts.ts';
import { sweepDirectories } from '../container/sweep.ts';
import type { Logger } from '../core/log.ts';
import type { Images } from '../image/port.ts';
import type { Files } from '../kernel/port.ts';
import type { Container } from '../lifecycle/container.ts';
import { isLive } from '../lifecycle/state.ts';
import type { Networks } from '../network/port.ts';
import type { Collection, SetAside } from '../store/port.ts';
import type { Supervisor } from '../supervisor/port.ts';
import type { Volumes } from '../volume/port.ts';

/** Reads the records once, though both this and the supervisor want them. */
export function loadedOnce<T>(records: Collection<T>): Collection<T> {
  let loaded: Map<string, T> | null = null;
  return {
    load: () => (loaded ??= records.load()),
    put: (key, record, options) => records.put(key, record, options),
    delete: (key, options) => records.delete(key, options),
  };
}

export async function recoverEngine({
  records,
  images,
  networks,
  volumes,
  supervisor,
  setAside,
  dataRoot,
  files,
  logger,
}: {
  readonly records: Collection<Container>;
  readonly images: Images;
  readonly networks: Networks;
  readonly volumes: Volumes;
  readonly supervisor: Supervisor;
  readonly setAside: () => readonly SetAside[];
  readonly dataRoot: string;
  readonly files: Pick<Files, 'removeTree'>;
  readonly logger: Logger;
}): Promise<void> {
  const containers = [...records.load().values()];
  const mayLive = new Set(
    containers
      .filter(({ state }) => isLive(state) || state.at === 'starting' || state.at === 'removing')
      .map(({ id }) => id),
  );
  // What a container wrote is not thrown away because its record cannot be read: that is for `longshore doctor` to say.
  const unread = setAside()
    .filter(({ collection }) => collection === 'containers')
    .map(({ key }) => key);
  for (const { id, mounts } of containers)
    for (const mount of mounts) if (mount.type === 'volume') volumes.refer(mount.name, id);
  await Promise.all([
    networks.recover(mayLive),
    volumes.recover(mayLive),
    images.snapshots.sweep(new Set([...containers.flatMap(snapshotsOf), ...unread])),
    sweepDirectories({
      dataRoot,
      known: new Set([...containers.map(({ id }) => id), ...unread]),
      removeTree: (path) => files.removeTree(path),
      logger,
    }),
  ]);
  await supervisor.recover();
  if (containers.length > 0) {
    logger.info(
      { containers: containers.length, running: supervisor.list().filter(({ state }) => isLive(state)).length },
      'containers known again',
    );
  }
}
