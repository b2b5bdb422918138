/** `docker commit`. Source: moby daemon/commit.go (v28). */
import { EngineError, type ErrorCode } from '../core/engine-error.ts';
import { applyChanges } from '../image/config-change.ts';
import { EMPTY_CONFIG } from '../image/image-config.ts';
import type { Image, ImageConfig } from '../image/port.ts';
import type { Container } from '../lifecycle/container.ts';
import { causeOf } from './control.ts';
import { publishEvent } from './events.ts';
import { mergeConfig, type Mergeable } from './merge-config.ts';
import type { Parts } from './parts.ts';
import type { Containers, Request } from './port.ts';
import { statusOf } from './status.ts';

export async function commit(
  parts: Parts,
  ref: string,
  options: Parameters<Containers['commit']>[1],
  by: Request,
): Promise<Image> {
  const container = parts.resolver.resolve(ref);
  refuseDead(container, 'commit');
  // Changes are made to what the client sent, else to what the container has: "ENV PATH=/x:$PATH" reads its own.
  const base = options.config === null ? configOf(EMPTY_CONFIG, container) : { ...EMPTY_CONFIG, ...options.config };
  const config = configOf(applyChanges(base, options.changes), container);
  // Files may change while they are read; a paused container's do not.
  const pauses = options.pause && statusOf(container) === 'running' && (await pause(parts, container, by));
  let image: Image;
  try {
    image = await parts.images.snapshots.commit(container.id, {
      config,
      containerConfig: { ...configOf(EMPTY_CONFIG, container), cmd: container.spec.process.cmd },
      reference: options.reference,
      author: options.author,
      message: options.message,
      parentId: container.imageId,
    });
  } finally {
    if (pauses) await unpause(parts, container, by);
  }
  publishEvent(parts, container, 'commit', {
    comment: options.message,
    imageID: image.id,
    imageRef: options.reference ?? '',
  });
  return image;
}

/** False: it has ended or was paused meanwhile, and may be read as it is. */
async function pause(parts: Parts, container: Container, by: Request): Promise<boolean> {
  try {
    await parts.supervisor.pause(container.id, causeOf(by));
    return true;
  } catch (error) {
    if (hasCode(error, 'CONTAINER_NOT_RUNNING', 'CONTAINER_PAUSED', 'CONTAINER_RESTARTING')) return false;
    throw error;
  }
}

/** Who killed or unpaused it meanwhile has done it for us. */
async function unpause(parts: Parts, container: Container, by: Request): Promise<void> {
  try {
    await parts.supervisor.unpause(container.id, causeOf(by));
  } catch (error) {
    if (!hasCode(error, 'CONTAINER_NOT_PAUSED', 'CONTAINER_NOT_RUNNING', 'CONTAINER_NOT_FOUND')) throw error;
  }
}

function hasCode(error: unknown, ...codes: readonly ErrorCode[]): boolean {
  return error instanceof EngineError && codes.includes(error.code);
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
