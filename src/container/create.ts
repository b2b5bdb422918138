/**
 * `docker create`: a request and an image become a container's record, its rootfs top, directory and volumes. What
 * fails half way leaves nothing. The order of the checks is moby's, as it decides which of several errors users see.
 * Source: moby daemon/create.go, create_unix.go, container.go (v28).
 */
import { chown, mkdir, rm } from 'node:fs/promises';

import { formatTime } from '../core/clock.ts';
import type { ContainerSpec, EndpointSpec, HostSpec, ProcessSpec } from '../core/container-spec.ts';
import { EngineError } from '../core/engine-error.ts';
import { rootOf } from '../core/id-map.ts';
import { newId, shortId } from '../core/id.ts';
import type { Image } from '../image/port.ts';
import { created } from '../lifecycle/created.ts';
import { checkEndpoint, ENDPOINT_DEFAULT } from '../network/endpoint-spec.ts';
import { decidePaths } from '../runtime/spec/masked-paths.ts';
import { applyHostDefaults, validateHostSpec } from '../runtime/spec/validate-host.ts';
import { acquireAll } from './acquire-all.ts';
import { checkSpec, cleanPath } from './check-spec.ts';
import { causeOf } from './control.ts';
import { checkMounts, planMountPoints, prepareVolumes } from './create-mounts.ts';
import { containerDirectory } from './details.ts';
import { withFullIds } from './joined.ts';
import { identifyLinks } from './links.ts';
import { checkLog } from './log-file.ts';
import { checkCommand, fromImage, mergeConfig } from './merge-config.ts';
import type { Parts } from './parts.ts';
import { platformWarning } from './platform-warning.ts';
import type { Containers, Request } from './port.ts';

type CreateRequest = Parameters<Containers['create']>[0];

export async function createContainer(
  parts: Parts,
  request: CreateRequest,
  by: Request,
): Promise<{ readonly id: string; readonly warnings: readonly string[] }> {
  const checked = checkSpec(withNetworkMode(request.spec));
  const { host, warnings } = validateHostSpec(checked.host, parts.host, parts.daemon);
  await checkMounts(parts, host);
  const image = resolveImage(parts, request);
  const all = [...warnings];
  const mismatch = request.platform === null ? platformWarning(image, parts.settings.platform) : null;
  if (mismatch !== null) all.push(mismatch);
  for (const [name, endpoint] of Object.entries(checked.endpoints)) {
    const network = parts.networkOf(name);
    if (network !== null) checkEndpoint(network, endpoint);
  }
  const merged = checkCommand(mergeConfig(checked.process, fromImage(image.config)));
  const defaulted = withMaskedPaths(applyHostDefaults(withFullIds(parts, host), parts.host, parts.daemon), parts);
  const log = checkLog(parts, defaulted.log);
  const id = newId();
  using name = parts.names.reserve(request.name, id);
  const links = identifyLinks(parts, defaulted);
  const spec: ContainerSpec = {
    process: completeProcess(parts, merged, defaulted, id),
    host: { ...defaulted, log, links },
    endpoints: endpointsFor(parts, checked.endpoints, defaulted, merged),
  };
  const isReadOnlyShallow = Number(request.apiVersion.slice('1.'.length)) < 44;
  await build(parts, { id, name: name.name, spec, image, isReadOnlyShallow }, by);
  return { id, warnings: all };
}

interface Draft {
  readonly id: string;
  readonly name: string;
  readonly spec: ContainerSpec;
  readonly image: Image;
  readonly isReadOnlyShallow: boolean;
}

/** From here on something exists; it goes again when a later step fails. */
async function build(parts: Parts, draft: Draft, by: Request): Promise<void> {
  const { id, name, spec, image } = draft;
  await using stack = new AsyncDisposableStack();
  const directory = containerDirectory(parts.settings.dataRoot, id);
  const { snapshots } = parts.images;
  await acquireAll(stack, [
    async () => {
      await snapshots.create(id, image.id);
      return async () => snapshots.remove(id);
    },
    async () => {
      await mkdir(directory, { recursive: true, mode: 0o710 });
      await chown(directory, 0, rootOf(parts.daemon.ids).gid);
      return async () => rm(directory, { recursive: true, force: true });
    },
  ]);
  const mounts = await planMountPoints(parts, draft, stack);
  const createdAt = formatTime(parts.clock.wallNs());
  const container = created({ id, name, createdAt, spec, imageId: image.id, mounts, cause: causeOf(by) });
  await prepareVolumes(parts, container);
  await parts.supervisor.add(container);
  stack.move(); // It is the record's now: removal gives it back.
}

function resolveImage(parts: Parts, { spec, platform }: CreateRequest): Image {
  const { image } = spec.process;
  if (image === '') {
    checkCommand(spec.process); // moby says of an empty request what is missing first
    throw new EngineError('IMAGE_REFERENCE_INVALID', 'invalid reference format');
  }
  return platform === null ? parts.images.resolve(image) : parts.images.resolve(image, platform);
}

/** "" and "default" are the default bridge. */
function withNetworkMode(spec: ContainerSpec): ContainerSpec {
  const { networkMode } = spec.host;
  if (networkMode !== '' && networkMode !== 'default') return spec;
  return { ...spec, host: { ...spec.host, networkMode: 'bridge' } };
}

function withMaskedPaths(host: HostSpec, parts: Parts): HostSpec {
  if (host.privileged) return host;
  const { masked, readonly } = decidePaths(host, parts.host.thermalThrottleCpus);
  return { ...host, maskedPaths: masked, readonlyPaths: readonly };
}

function completeProcess(parts: Parts, process: ProcessSpec, host: HostSpec, id: string): ProcessSpec {
  const own = host.networkMode === 'host' ? parts.settings.hostname : shortId(id);
  return {
    ...process,
    hostname: process.hostname === '' ? own : process.hostname,
    // The image's may have a trailing slash or be relative to the root.
    workingDir: process.workingDir === '' ? '' : cleanPath(process.workingDir),
    exposedPorts: withPublished(process.exposedPorts, host),
  };
}

/** A port that is published is exposed. */
function withPublished(exposed: readonly string[] | null, host: HostSpec): readonly string[] | null {
  const published = Object.keys(host.portBindings ?? {}).map((key) => (key.includes('/') ? key : `${key}/tcp`));
  if (published.length === 0) return exposed;
  return [...new Set([...(exposed ?? []), ...published])];
}

/** By name where the network exists, as asked where it does not yet; its mode's network first. */
function endpointsFor(
  parts: Parts,
  asked: ContainerSpec['endpoints'],
  host: HostSpec,
  process: ProcessSpec,
): ContainerSpec['endpoints'] {
  if (process.networkDisabled || host.networkMode.startsWith('container:')) return {};
  const nameOf = (key: string): string => parts.networkOf(key)?.name ?? key;
  const endpoints: Record<string, EndpointSpec> = {};
  for (const [key, endpoint] of Object.entries(asked)) endpoints[nameOf(key)] = endpoint;
  const mode = nameOf(host.networkMode);
  if (Object.keys(endpoints).length === 0) return { [mode]: ENDPOINT_DEFAULT };
  const { [mode]: first, ...rest } = endpoints;
  return first === undefined ? endpoints : { [mode]: first, ...rest };
}
