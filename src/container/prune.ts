/** `docker container prune`. Source: moby daemon/prune.go (v28). */
import { EngineError, messageOf } from '../core/engine-error.ts';
import { parseTime } from '../core/clock.ts';
import type { Container } from '../lifecycle/container.ts';
import { countsAsRunning } from '../lifecycle/state.ts';
import { causeOf } from './control.ts';
import { checkFilterNames, matchesLabels, valuesOf } from './filters.ts';
import type { Parts } from './parts.ts';
import type { Filters, Request } from './port.ts';
import { parseMoment } from './moment.ts';

/** One at a time in each engine. */
const underWay = new WeakSet<Parts>();

export async function prune(
  parts: Parts,
  filters: Filters,
  by: Request,
): Promise<{ readonly deleted: readonly string[]; readonly reclaimedBytes: number }> {
  if (underWay.has(parts)) throw new EngineError('CONTAINER_REMOVING', 'a prune operation is already running');
  checkFilterNames(filters, ['label', 'label!', 'until']);
  const test = compileTest(parts, filters);
  underWay.add(parts);
  try {
    const deleted: string[] = [];
    let reclaimedBytes = 0;
    for (const container of parts.supervisor.list()) {
      if (countsAsRunning(container) || container.state.at === 'starting' || !test(container)) continue;
      const bytes = await writableBytes(parts, container);
      try {
        await parts.supervisor.remove(container.id, { force: false, volumes: false }, causeOf(by));
      } catch (error) {
        // It was started or removed meanwhile: that is for whoever did so.
        parts.logger.warn({ container: container.id, error: messageOf(error) }, 'a container could not be pruned');
        continue;
      }
      reclaimedBytes += bytes;
      deleted.push(container.id);
    }
    const attributes = { reclaimed: String(reclaimedBytes) };
    parts.events.publish({ type: 'container', action: 'prune', actor: { id: '', attributes } });
    return { deleted, reclaimedBytes };
  } finally {
    underWay.delete(parts);
  }
}

function compileTest(parts: Parts, filters: Filters): (container: Container) => boolean {
  const until = valuesOf(filters, 'until');
  if (until.length > 1) throw new EngineError('PARAMETER_INVALID', 'more than one until filter specified');
  const untilNs = until.length === 0 ? null : parseMoment(until[0]!, parts.clock.wallNs());
  const wanted = valuesOf(filters, 'label');
  const unwanted = valuesOf(filters, 'label!');
  return (container) => {
    if (untilNs !== null && parseTime(container.createdAt) > untilNs) return false;
    const { labels } = container.spec.process;
    return matchesLabels(wanted, labels) && !unwanted.some((label) => matchesLabels([label], labels));
  };
}

async function writableBytes(parts: Parts, container: Container): Promise<number> {
  try {
    return (await parts.images.snapshots.sizes(container.id)).writableBytes;
  } catch {
    return 0; // A damaged container has nothing to measure, and is to go all the same.
  }
}
