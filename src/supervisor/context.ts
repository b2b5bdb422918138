/** What every part of the supervisor works with. */
import type { Clock } from '../core/clock.ts';
import type { Logger } from '../core/log.ts';
import type { EventPublisher, NewEvent } from '../event/port.ts';
import type { Container } from '../lifecycle/container.ts';
import type { Event, Step } from '../lifecycle/event.ts';
import type { Runtime } from '../runtime/port.ts';
import type { Collection, History } from '../store/port.ts';
import type { Resources } from './port.ts';

export interface SupervisorOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Opened with lifecycle's decodeContainer. */
  readonly records: Collection<Container>;
  readonly runtime: Runtime;
  readonly resources: Resources;
  readonly events: EventPublisher;
  /** Where each transition is told with its cause; without it nobody is told. */
  readonly history?: Pick<History, 'append' | 'close'>;
  /**
   * Words on a process that does not go away: "process 7 is in state D (disk sleep), waiting in nfs_wait". Never
   * throws; without it only the pid is named.
   */
  readonly stuck?: (pid: number) => Promise<string>;
  /** Another transition: the simulation plants bugs here. */
  readonly transition?: (container: Container, event: Event, nowNs: bigint) => Step;
}

export type Context = Required<SupervisorOptions>;

/** Publishes an event of a container, with the attributes that all of its events have. */
export function publishOf(
  context: Pick<Context, 'events' | 'resources'>,
  container: Container,
  action: string,
  attributes: Readonly<Record<string, string>> = {},
): void {
  context.events.publish(eventOf(context, container, action, attributes));
}

/** Writes it into the journal; the result tells the subscribers. */
export function recordOf(
  context: Pick<Context, 'events' | 'resources'>,
  container: Container,
  action: string,
  attributes: Readonly<Record<string, string>>,
): () => void {
  const event = eventOf(context, container, action, attributes);
  return context.events.record?.(event) ?? (() => context.events.publish(event));
}

function eventOf(
  { resources }: Pick<Context, 'resources'>,
  container: Container,
  action: string,
  attributes: Readonly<Record<string, string>>,
): NewEvent {
  return {
    type: 'container',
    action,
    actor: { id: container.id, attributes: { ...resources.eventAttributes(container), ...attributes } },
  };
}
