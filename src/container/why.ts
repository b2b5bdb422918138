/** The story of a container, out of the journal that the supervisor keeps: what happened, why, and what comes next. */
import { formatTime } from '../core/clock.ts';
import { EngineError } from '../core/engine-error.ts';
import type { Container } from '../lifecycle/container.ts';
import { policyText } from '../lifecycle/state.ts';
import type { StoryEntry } from '../lifecycle/story.ts';
import { nextText, storyText } from '../lifecycle/story-text.ts';
import type { ClosedHistory } from '../store/port.ts';
import type { Parts } from './parts.ts';
import type { Story } from './port.ts';
import { statusOf } from './status.ts';

/** @throws {EngineError} CONTAINER_NOT_FOUND, CONTAINER_ID_AMBIGUOUS */
export function tellWhy(parts: Pick<Parts, 'resolver' | 'history'>, ref: string): Story {
  let container: Container;
  try {
    container = parts.resolver.resolve(ref);
  } catch (error) {
    const gone = error instanceof EngineError && error.code === 'CONTAINER_NOT_FOUND' ? findClosed(parts, ref) : null;
    if (gone === null) throw error;
    return {
      id: gone.key,
      name: gone.label,
      status: 'removed',
      policy: '',
      entries: entriesOf(parts, gone.key),
      next: null,
    };
  }
  const { id, name, spec } = container;
  const policy = policyText(spec.host.restartPolicy);
  return {
    id,
    name,
    status: statusOf(container),
    policy,
    entries: entriesOf(parts, id),
    next: nextText(container, asIs),
  };
}

/** As a container is found: by ID, then by name (the last of that name), then by a prefix of the ID. */
function findClosed({ history }: Pick<Parts, 'history'>, ref: string): ClosedHistory | null {
  const closed = history.closed();
  const name = ref.startsWith('/') ? ref.slice(1) : ref;
  const exact = closed.find(({ key }) => key === ref) ?? closed.find(({ label }) => label === name);
  if (exact !== undefined) return exact;
  const matches = closed.filter(({ key }) => key.startsWith(ref));
  return matches.length === 1 ? matches[0]! : null;
}

function entriesOf({ history }: Pick<Parts, 'history'>, id: string): Story['entries'] {
  return history.read(id).map(({ sequence, timeNs, entry }) => {
    const told = entry as StoryEntry; // written by the supervisor of this or an older Longshore
    return { ...told, sequence, at: formatTime(timeNs), text: textOf(told) };
  });
}

/** An entry that another version wrote may have things in it that this one has no words for. */
function textOf(entry: StoryEntry): string {
  try {
    return storyText(entry, asIs);
  } catch {
    return `${entry.what?.kind ?? 'unknown'} ${entry.cause?.detail ?? ''}`.trim();
  }
}

function asIs(at: string): string {
  return at;
}
