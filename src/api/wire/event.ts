/** GET /events. Source: moby api/types/events, daemon/events/filter.go (v28). */
import type { Filters } from '../../container/port.ts';
import type { EngineEvent } from '../../event/port.ts';
import { matchesExactly, matchesLabels, matchesPrefix } from './filters.ts';
import { withoutTag } from './reference.ts';

/** Actions whose text goes on after a colon: asked for without it, they match by their beginning. */
const OPEN_ACTIONS = ['health_status', 'exec_create', 'exec_start'];

const BY_NAME = ['daemon', 'container', 'plugin', 'volume', 'network', 'node', 'service', 'secret', 'config'];

/** One line of the stream, JSON. By hand at its end, because nanoseconds are beyond what a number in JavaScript holds. */
export function formatEvent(event: EngineEvent): string {
  const { actor } = event;
  const legacy = event.type === 'container' || event.type === 'image';
  const json = JSON.stringify({
    status: legacy ? event.action : undefined,
    id: legacy ? actor.id || undefined : undefined,
    from: event.type === 'container' ? actor.attributes['image'] || undefined : undefined,
    Type: event.type,
    Action: event.action,
    Actor: { ID: actor.id, Attributes: actor.attributes },
    scope: event.scope,
    time: Number(event.timeNs / 1_000_000_000n),
  });
  return `${json.slice(0, -1)},"timeNano":${event.timeNs}}\n`;
}

export function eventMatcher(filters: Filters, minor: number): (event: EngineEvent) => boolean {
  const byPrefix = filters.get('event')?.some((action) => OPEN_ACTIONS.includes(action)) ?? false;
  return (event) => {
    // Images are said to be created since 1.46.
    if (minor < 46 && event.type === 'image' && event.action === 'create') return false;
    const actionMatches = byPrefix
      ? matchesPrefix(filters, 'event', event.action)
      : matchesExactly(filters, 'event', event.action);
    return (
      actionMatches &&
      matchesExactly(filters, 'type', event.type) &&
      matchesExactly(filters, 'scope', event.scope) &&
      BY_NAME.every(
        (name) =>
          !filters.has(name) ||
          matchesPrefix(filters, name, event.actor.id) ||
          matchesPrefix(filters, name, event.actor.attributes['name'] ?? ''),
      ) &&
      matchesImage(filters, event) &&
      (!filters.has('label') || matchesLabels(filters, 'label', event.actor.attributes))
    );
  };
}

function matchesImage(filters: Filters, event: EngineEvent): boolean {
  if (!filters.has('image')) return true;
  const { id, attributes } = event.actor;
  const name = attributes[event.type === 'image' ? 'name' : 'image'] ?? '';
  return [id, name, withoutTag(id), withoutTag(name)].some((candidate) => matchesExactly(filters, 'image', candidate));
}
