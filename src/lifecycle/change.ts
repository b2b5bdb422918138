/** Changes of the record: rename, update, and what container/ amends. Source: moby daemon/update.go, rename.go (v28). */
import { EngineError } from '../core/engine-error.ts';
import type { Container } from './container.ts';
import { publish, refuse, step, type Change, type Fact, type Request, type Step } from './event.ts';
import { isLive } from './state.ts';
import * as words from './words.ts';

type Of<Union, Kind> = Extract<Union, { readonly kind: Kind }>;

/** The caller holds the new name. */
export function onRenameRequested(container: Container, { request, name }: Of<Request, 'rename-requested'>): Step {
  if (isLeaving(container)) {
    const { code, message } = words.markedForRemovalOn(container.id, 'rename');
    return step(container, refuse(request, code, message));
  }
  return step({ ...container, name }, publish('rename', { oldName: `/${container.name}` }), {
    kind: 'answer',
    request,
    answer: 'done',
  });
}

/** A live process is changed first; the record follows when that worked. */
export function onUpdateRequested(container: Container, event: Of<Request, 'update-requested'>): Step {
  const { request, change, cause } = event;
  if (isLeaving(container)) {
    const { code, message } = words.markedForRemovalOn(container.id, 'update');
    return step(container, refuse(request, code, message));
  }
  if (isLive(container.state) && change.resources !== undefined) {
    return step(container, { kind: 'update-process', request, change, cause, resources: change.resources });
  }
  return step(changed(container, change), publish('update'), { kind: 'answer', request, answer: 'done' });
}

export function onLimitsApplied(container: Container, { request, change }: Of<Fact, 'limits-applied'>): Step {
  return step(changed(container, change), publish('update'), { kind: 'answer', request, answer: 'done' });
}

export function onAmendRequested(container: Container, { request, change }: Of<Request, 'amend-requested'>): Step {
  try {
    const { spec, mounts } = change(container);
    return step({ ...container, spec, mounts }, { kind: 'answer', request, answer: 'done' });
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    return step(container, refuse(request, error.code, error.message));
  }
}

/** A policy that was changed holds from the next end on; a restart that waits already is left to come. */
function changed(container: Container, { resources, restartPolicy }: Change): Container {
  const { spec } = container;
  const host = {
    ...spec.host,
    ...(resources !== undefined && { resources }),
    ...(restartPolicy !== undefined && { restartPolicy }),
  };
  return { ...container, spec: { ...spec, host } };
}

function isLeaving({ state, intent }: Container): boolean {
  return state.at === 'removing' || state.at === 'dead' || intent.wanted === 'remove';
}
