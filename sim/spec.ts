/** A container that asks for nothing special, to vary in tests. */
import {
  PLAIN_HOST,
  PLAIN_PROCESS,
  type ContainerSpec,
  type HostSpec,
  type ProcessSpec,
} from '../src/core/container-spec.ts';
import { created } from '../src/lifecycle/created.ts';
import type { Container } from '../src/lifecycle/container.ts';

const process: ProcessSpec = { ...PLAIN_PROCESS, image: 'busybox', cmd: ['sleep', '1000'] };

const host: HostSpec = { ...PLAIN_HOST, log: { driver: 'json-file', options: {} }, networkMode: 'none' };

export function plainSpec(
  change: { readonly process?: Partial<ProcessSpec>; readonly host?: Partial<HostSpec> } = {},
): ContainerSpec {
  return { process: { ...process, ...change.process }, host: { ...host, ...change.host }, endpoints: {} };
}

export function plainContainer(
  id: string,
  change: { readonly process?: Partial<ProcessSpec>; readonly host?: Partial<HostSpec> } = {},
): Container {
  return created({
    id,
    name: `name-of-${id}`,
    createdAt: '2026-11-22T00:00:00Z',
    spec: plainSpec(change),
    imageId: '',
    mounts: [],
    cause: { actor: 'api', detail: 'test' },
  });
}
