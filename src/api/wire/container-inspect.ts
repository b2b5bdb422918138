/** GET /containers/{id}/json. Source: moby api/types/container, daemon/inspect.go (v28). */
import type { ContainerDetails } from '../../container/port.ts';
import { SHORT_ID_LENGTH } from '../../core/id.ts';
import { formatContainerConfig } from './container-config.ts';
import { deriveState, formatHealth } from './container-state.ts';
import { formatEndpoint } from './endpoint.ts';
import { formatHostConfig } from './host-config.ts';
import { formatMountPoint } from './mount.ts';
import { formatPortMap } from './port-map.ts';

const PREDEFINED_NETWORKS: ReadonlySet<string> = new Set(['bridge', 'host', 'none', 'default']);

export function formatContainerInspect(details: ContainerDetails, minor: number): object {
  const { container, overlay, paths, sizes } = details;
  const { spec } = container;
  const macAddress = spec.endpoints[spec.host.networkMode]?.macAddress;
  return {
    Id: container.id,
    Created: container.createdAt,
    Path: details.command.path,
    Args: details.command.arguments,
    State: { ...deriveState(container), Health: formatHealth(container.health) },
    Image: container.imageId,
    ResolvConfPath: paths.resolvConf,
    HostnamePath: paths.hostname,
    HostsPath: paths.hosts,
    LogPath: paths.log,
    Name: `/${container.name}`,
    RestartCount: container.restartCount,
    Driver: 'overlay2',
    Platform: details.platform,
    MountLabel: '',
    ProcessLabel: '',
    AppArmorProfile: details.appArmorProfile,
    ExecIDs: details.execIds.length === 0 ? null : details.execIds,
    HostConfig: formatHostConfig({
      ...spec.host,
      runtime: spec.host.runtime || details.runtime,
      links: details.links,
    }),
    GraphDriver: {
      Data: {
        ID: container.id,
        LowerDir: overlay.lowerDir,
        MergedDir: overlay.mergedDir,
        UpperDir: overlay.upperDir,
        WorkDir: overlay.workDir,
      },
      Name: 'overlay2',
    },
    SizeRw: sizes?.writableBytes,
    SizeRootFs: sizes?.rootBytes,
    Mounts: container.mounts.map(formatMountPoint),
    // Up to 1.51 the container-wide address is shown as well, though it has become the endpoint's.
    Config: formatContainerConfig(macAddress ? { ...spec.process, macAddress } : spec.process),
    NetworkSettings: formatNetworkSettings(details, minor),
  };
}

function formatNetworkSettings(details: ContainerDetails, minor: number): object {
  const { container, endpoints } = details;
  const bridge = endpoints.get('bridge');
  // Before 1.45 names that the engine made up were among the aliases.
  const made = [container.id.slice(0, SHORT_ID_LENGTH), container.spec.process.hostname];
  return {
    Bridge: '',
    SandboxID: details.sandboxKey === '' ? '' : container.id,
    SandboxKey: details.sandboxKey,
    Ports: formatPortMap(details.ports),
    HairpinMode: false,
    LinkLocalIPv6Address: '',
    LinkLocalIPv6PrefixLen: 0,
    SecondaryIPAddresses: null,
    SecondaryIPv6Addresses: null,
    EndpointID: bridge?.endpointId ?? '',
    Gateway: bridge?.gateway ?? '',
    GlobalIPv6Address: bridge?.ipv6Address ?? '',
    GlobalIPv6PrefixLen: bridge?.ipv6PrefixLength ?? 0,
    IPAddress: bridge?.ipv4Address ?? '',
    IPPrefixLen: bridge?.ipv4PrefixLength ?? 0,
    IPv6Gateway: bridge?.ipv6Gateway ?? '',
    MacAddress: bridge?.macAddress ?? '',
    Networks: Object.fromEntries(
      [...endpoints].map(([name, state]) => [
        name,
        formatEndpoint(state, {
          summary: false,
          extraAliases: minor < 45 && !PREDEFINED_NETWORKS.has(name) ? made : [],
        }),
      ]),
    ),
  };
}
