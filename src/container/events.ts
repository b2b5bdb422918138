/** The events that this room publishes, and the attributes that all container events carry. Source: moby daemon/events.go (v28). */
import type { Container } from '../lifecycle/container.ts';
import type { Parts } from './parts.ts';

/** Labels first: the engine's own attributes win over labels of the same name. */
export function eventAttributes(container: Container): Record<string, string> {
  const { image, labels } = container.spec.process;
  return { ...labels, ...(image === '' ? {} : { image }), name: container.name };
}

export function publishEvent(
  parts: Parts,
  container: Container,
  action: string,
  attributes: Readonly<Record<string, string>> = {},
): void {
  const actor = { id: container.id, attributes: { ...eventAttributes(container), ...attributes } };
  parts.events.publish({ type: 'container', action, actor });
}
