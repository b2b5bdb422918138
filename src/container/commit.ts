/** `docker commit`. Source: moby daemon/commit.go (v28). */
import { EngineError } from '../core/engine-error.ts';
import { applyChanges } from '../image/config-change.ts';
import type { Image, ImageConfig } from '../image/port.ts';
import type { Container } from '../lifecycle/container.ts';
import { causeOf } from './control.ts';
import { publishEvent } from './events.ts';
import { mergeConfig, type Mergeable } from './merge-config.ts';
import type { Parts } from './parts.ts';
import type { Containers, Request } from './port.ts';
import { statusOf } from './status.ts';

const NO_CONFIG: ImageConfig = {
  user: '',
  env: null,
  entrypoint: null,
  cmd: null,
  workingDir: '',
  labels: null,
  exposedPorts: null,
  volumes: null,
  stopSignal: '',
  healthcheck: null,
  onBuild: null,
  shell: null,
  argsEscaped: false,
};

export async function commit(
  parts: Parts,
  ref: string,
  options: Parameters<Containers['commit']>[1],
  by: Request,
): Promise<Image> {
  const container = parts.resolver.resolve(ref);
  refuseDead(container, 'commit');
  const asked = applyChanges({ ...NO_CONFIG, ...options.config }, options.changes);
  const config = configOf(asked, container);
  // Files may change while they are read; a paused container's do not.
  const pauses = options.pause && statusOf(container) === 'running';
  if (pauses) await parts.supervisor.pause(container.id, causeOf(by));
  let image: Image;
  try {
    image = await parts.images.snapshots.commit(container.id, {
      config,
      reference: options.reference,
      author: options.author,
      message: options.message,
      createdBy: (container.spec.process.cmd ?? []).join(' '),
      parentId: container.imageId,
    });
  } finally {
    if (pauses) await parts.supervisor.unpause(container.id, causeOf(by));
  }
  publishEvent(parts, container, 'commit', {
    comment: options.message,
    imageID: image.id,
    imageRef: options.reference ?? '',
  });
  return image;
}

/** What was asked for comes before what the container has. */
function configOf(asked: ImageConfig, container: Container): ImageConfig {
  const own: Mergeable = { ...asked, labels: asked.labels ?? {}, stopSignal: asked.stopSignal || null };
  const { stopSignal, ...merged } = mergeConfig(own, container.spec.process);
  return { ...merged, stopSignal: stopSignal ?? '', onBuild: asked.onBuild };
}

export function refuseDead(container: Container, verb: string): void {
  const { at } = container.state;
  if (at !== 'dead' && at !== 'removing') return;
  const why = at === 'dead' ? 'Dead' : 'being removed';
  throw new EngineError('CONTAINER_DEAD', `You cannot ${verb} container ${container.id} which is ${why}`);
}
