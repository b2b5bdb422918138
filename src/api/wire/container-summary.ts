/** GET /containers/json: one entry each. Source: moby container/view.go, daemon/list.go (v28). */
import type { ContainerDetails } from '../../container/port.ts';
import { deriveState, describeState } from './container-state.ts';
import { formatEndpoint } from './endpoint.ts';
import { formatMountPoint } from './mount.ts';

/** `nowMs` is wall clock. */
export function formatContainerSummary(details: ContainerDetails, minor: number, nowMs: number): object {
  const { container, sizes } = details;
  const { host, process } = container.spec;
  const state = deriveState(container);
  const annotations =
    minor >= 46 && host.annotations !== null && Object.keys(host.annotations).length > 0 ? host.annotations : undefined;
  return {
    Id: container.id,
    Names: [`/${container.name}`, ...details.linkNames],
    Image: imageName(details),
    ImageID: container.imageId,
    Command: formatCommand(details.command),
    Created: Math.floor(Date.parse(container.createdAt) / 1000),
    Ports: formatPorts(details.ports),
    SizeRw: sizes?.writableBytes || undefined,
    SizeRootFs: sizes?.rootBytes || undefined,
    Labels: process.labels,
    State: state.Status,
    Status: describeState(state, container.health, nowMs),
    HostConfig: { NetworkMode: host.networkMode || undefined, Annotations: annotations },
    NetworkSettings: {
      Networks: Object.fromEntries(
        [...details.endpoints].map(([name, endpoint]) => [name, formatEndpoint(endpoint, { summary: true })]),
      ),
    },
    Mounts: container.mounts.map(formatMountPoint),
  };
}

/** The name that was asked for, or the image's ID when that name means another image (or none) by now. */
function imageName({ container, image }: ContainerDetails): string {
  const asked = container.spec.process.image;
  if (image === null) return container.imageId === '' ? asked : container.imageId;
  const hexadecimal = image.id.replace('sha256:', '');
  if (hexadecimal.startsWith(asked.replace('sha256:', '')) && asked !== '') return asked;
  const name = asked.replace(/^(?:index\.)?docker\.io\//, '').replace(/^library\//, '');
  const [base = '', digest] = name.split('@');
  const lastPart = base.slice(base.lastIndexOf('/') + 1);
  const known =
    digest === undefined
      ? image.tags.includes(lastPart.includes(':') ? base : `${base}:latest`)
      : image.digests.some((known) => known.endsWith(`@${digest}`));
  return known ? asked : image.id;
}

function formatCommand({ path, arguments: args }: ContainerDetails['command']): string {
  if (args.length === 0) return path;
  return `${path} ${args.map((argument) => (argument.includes(' ') ? `'${argument}'` : argument)).join(' ')}`;
}

function formatPorts(ports: ContainerDetails['ports']): object[] {
  return Object.entries(ports).flatMap(([key, bindings]): object[] => {
    const [port = '', protocol = 'tcp'] = key.split('/');
    if (bindings.length === 0) return [{ PrivatePort: Number(port), Type: protocol }];
    return bindings.map(({ hostIp, hostPort }) => ({
      IP: hostIp || undefined,
      PrivatePort: Number(port),
      PublicPort: Number(hostPort) || undefined,
      Type: protocol,
    }));
  });
}
