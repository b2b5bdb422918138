/** What a name or ID means, and telling that something happened to a network. */
import { EngineError } from '../core/engine-error.ts';
import type { EventPublisher } from '../event/port.ts';
import type { LiveNetwork } from './live-network.ts';
import type { Network } from './port.ts';

export function publishNetworkEvent(
  events: EventPublisher,
  network: Network,
  action: string,
  more: Record<string, string>,
): void {
  events.publish({
    type: 'network',
    action,
    actor: { id: network.id, attributes: { ...more, name: network.name, type: network.driver } },
  });
}

/** Full ID, then name, then unique prefix of an ID. @throws NETWORK_NOT_FOUND, NETWORK_ID_AMBIGUOUS */
export function resolveNetwork(networks: ReadonlyMap<string, LiveNetwork>, term: string): LiveNetwork {
  const exact = networks.get(term);
  if (exact !== undefined) return exact;
  const all = [...networks.values()];
  const named = all.find(({ network }) => network.name === term);
  if (named !== undefined) return named;
  const prefixed = term === '' ? [] : all.filter(({ network }) => network.id.startsWith(term));
  if (prefixed.length === 1) return prefixed[0]!;
  if (prefixed.length > 1) {
    throw new EngineError(
      'NETWORK_ID_AMBIGUOUS',
      `network ${term} is ambiguous (${prefixed.length} matches found based on ID prefix)`,
    );
  }
  throw new EngineError('NETWORK_NOT_FOUND', `network ${term} not found`);
}
