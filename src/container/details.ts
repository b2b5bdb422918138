/** A snapshot, with everything about it that inspect and list show and that other rooms know. */
import { posix } from 'node:path';

import type { EndpointSpec, PortBinding } from '../core/container-spec.ts';
import type { Container } from '../lifecycle/container.ts';
import type { EndpointState } from '../network/port.ts';
import { apparmorProfile } from '../runtime/spec/apparmor.ts';
import { shownLinks, type linkNames } from './links.ts';
import { commandOf } from './merge-config.ts';
import type { Parts } from './parts.ts';
import type { ContainerDetails } from './port.ts';
import { liveOf } from './status.ts';

const NO_PORTS: Readonly<Record<string, readonly PortBinding[]>> = {};
const NO_OVERLAY = { lowerDir: '', upperDir: '', workDir: '', mergedDir: '' };

/** `linkNames`: for lists, of the whole table at once. */
export async function describe(
  parts: Parts,
  container: Container,
  options: { readonly size: boolean; readonly linkNames?: ReturnType<typeof linkNames> },
): Promise<ContainerDetails> {
  const sizes = options.size ? await sizesOf(parts, container) : null;
  return new Details(parts, container, options.linkNames?.get(container.id) ?? [], sizes);
}

/** As `docker ps` asks for them: no sizes, and nothing is looked up that is not shown. */
export function describeBriefly(
  parts: Parts,
  container: Container,
  names: ReturnType<typeof linkNames>,
): ContainerDetails {
  return new Details(parts, container, names.get(container.id) ?? [], null);
}

/** Each member is looked up when it is read: a list of a thousand shows a few of each, and keeps none. */
class Details implements ContainerDetails {
  readonly container: Container;
  readonly linkNames: readonly string[];
  readonly sizes: ContainerDetails['sizes'];
  readonly platform = 'linux';
  readonly #parts: Parts;

  constructor(parts: Parts, container: Container, names: readonly string[], sizes: ContainerDetails['sizes']) {
    this.#parts = parts;
    this.container = container;
    this.linkNames = names;
    this.sizes = sizes;
  }

  get image(): ContainerDetails['image'] {
    const { imageId } = this.container;
    return imageId === '' ? null : this.#parts.imageOf(imageId);
  }

  get command(): ContainerDetails['command'] {
    return commandOf(this.container.spec.process);
  }

  get endpoints(): ContainerDetails['endpoints'] {
    return endpointsOf(this.#parts, this.container, liveOf(this.container) !== null);
  }

  get ports(): ContainerDetails['ports'] {
    return liveOf(this.container) === null ? NO_PORTS : this.#parts.networks.ports(this.container.id);
  }

  get sandboxKey(): string {
    return sandboxKeyOf(this.#parts, this.container);
  }

  get execIds(): readonly string[] {
    const execs = this.#parts.supervisor.execs(this.container.id);
    return execs.flatMap((exec) => (exec.state.at === 'exited' ? [] : exec.id));
  }

  get links(): ContainerDetails['links'] {
    return shownLinks(this.#parts.supervisor, this.container);
  }

  get paths(): ContainerDetails['paths'] {
    const { container } = this;
    const directory = containerDirectory(this.#parts.settings.dataRoot, container.id);
    return {
      log: container.run > 0 && logKept(container) ? posix.join(directory, `${container.id}-json.log`) : '',
      resolvConf: pathOfFile(container, directory, 'resolv.conf'),
      hostname: pathOfFile(container, directory, 'hostname'),
      hosts: pathOfFile(container, directory, 'hosts'),
    };
  }

  get overlay(): ContainerDetails['overlay'] {
    return overlayOf(this.#parts, this.container);
  }

  get runtime(): string {
    return this.container.spec.host.runtime;
  }

  get appArmorProfile(): string {
    return appArmorProfileOf(this.#parts, this.container);
  }
}

/** What is seen at /etc/FILE: the engine's own, or what the user has mounted there. "" before the first start. */
function pathOfFile(container: Container, directory: string, file: string): string {
  if (container.run === 0) return '';
  const mount = container.mounts.find(({ destination }) => destination === `/etc/${file}`);
  return mount?.source ?? posix.join(directory, file);
}

/** The file of its network namespace; "" where it has none of its own. */
function sandboxKeyOf(parts: Parts, container: Container): string {
  const live = liveOf(container);
  const { networkMode } = container.spec.host;
  if (live === null || networkMode === 'host' || networkMode.startsWith('container:')) return '';
  // One that runs since before the daemon started is known by its process.
  return parts.namespacePaths.get(container.id) ?? `/proc/${live.pid}/ns/net`;
}

export function containerDirectory(dataRoot: string, id: string): string {
  return posix.join(dataRoot, 'containers', id);
}

/** Other drivers than "none" keep a local file too, but only json-file's is shown to shippers. */
function logKept(container: Container): boolean {
  return container.spec.host.log.driver === 'json-file';
}

/** What is, of a live container; what was asked, of any other. */
function endpointsOf(parts: Parts, container: Container, live: boolean): ReadonlyMap<string, EndpointState> {
  if (live) {
    const endpoints = parts.networks.endpoints(container.id);
    if (endpoints.size > 0) return endpoints;
  }
  return new Map(
    Object.entries(container.spec.endpoints).map(([asked, spec]) => {
      const network = parts.networkOf(asked);
      // As in Docker, a container that never ran does not show the network's ID.
      return [network?.name ?? asked, endpointAsked(spec, container.run > 0 ? (network?.id ?? '') : '')];
    }),
  );
}

function endpointAsked(spec: EndpointSpec, networkId: string): EndpointState {
  return {
    networkId,
    endpointId: '',
    spec,
    gateway: '',
    ipv4Address: '',
    ipv4PrefixLength: 0,
    ipv6Gateway: '',
    ipv6Address: '',
    ipv6PrefixLength: 0,
    macAddress: spec.macAddress,
    dnsNames: null,
    interfaceName: '',
  };
}

/** A container that is being removed may have lost its top already. */
function overlayOf(parts: Parts, container: Container): ContainerDetails['overlay'] {
  try {
    return parts.images.snapshots.describe(container.id);
  } catch (error) {
    parts.logger.debug({ container: container.id, error }, 'the rootfs of a container cannot be described');
    return NO_OVERLAY;
  }
}

/** As Docker, which shows -1 for sizes that cannot be had, a list never fails for one container. */
async function sizesOf(parts: Parts, container: Container): Promise<ContainerDetails['sizes']> {
  try {
    return await parts.images.snapshots.sizes(container.id);
  } catch (error) {
    parts.logger.warn({ container: container.id, error }, 'the size of a container cannot be measured');
    return { writableBytes: -1, rootBytes: -1 };
  }
}

function appArmorProfileOf(parts: Parts, container: Container): string {
  if (!parts.host.apparmor) return '';
  const option = container.spec.host.securityOpt?.findLast((one) => /^apparmor[=:]/.test(one));
  return apparmorProfile(option?.slice('apparmor='.length) ?? '', container.spec.host.privileged);
}
