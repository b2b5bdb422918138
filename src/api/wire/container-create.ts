/**
 * The body of POST /containers/create: Config, HostConfig and NetworkingConfig become a ContainerSpec, after what an
 * older API version meant was made good. Source: moby postContainersCreate, runconfig/ and daemon/container.go (v28).
 */
import type { ContainerSpec, EndpointSpec } from '../../core/container-spec.ts';
import { EngineError } from '../../core/engine-error.ts';
import { configFields, containerConfig, parseContainerConfig, type ContainerConfig } from './container-config.ts';
import { map, optional, struct, type Decoder } from './decode.ts';
import { endpointSettings, NO_ENDPOINT_SETTINGS, parseEndpoint, type EndpointSettings } from './endpoint.ts';
import { hostConfig, parseHostConfig, type HostConfig } from './host-config.ts';
import { adaptMount } from './mount.ts';

const ENDPOINT_SYSCTLS = 'com.docker.network.endpoint.sysctls';

const fields = struct('container.CreateRequest', {
  ...configFields,
  HostConfig: optional(hostConfig),
  NetworkingConfig: optional(struct('network.NetworkingConfig', { EndpointsConfig: map(optional(endpointSettings)) })),
});

export interface CreateRequest {
  /** null when the body names no field of Config at all. */
  readonly config: ContainerConfig | null;
  readonly host: HostConfig;
  readonly endpoints: Readonly<Record<string, EndpointSettings>>;
}

export const createRequest: Decoder<CreateRequest> = {
  zero: { config: null, host: hostConfig.zero, endpoints: {} },
  goType: fields.goType,
  decode(value, where) {
    const { HostConfig: host, NetworkingConfig: networking, ...config } = fields.decode(value, where);
    return {
      config: containerConfig.hasAny(value) ? config : null,
      host: host ?? hostConfig.zero,
      endpoints: Object.fromEntries(
        Object.entries(networking?.EndpointsConfig ?? {}).map(([name, settings]) => [
          name,
          settings ?? NO_ENDPOINT_SETTINGS,
        ]),
      ),
    };
  },
};

/** `cgroupVersion` of the host: what an empty cgroup namespace mode means to old clients depends on it. */
export function parseCreateRequest(
  request: CreateRequest,
  minor: number,
  cgroupVersion: '1' | '2',
): { readonly spec: ContainerSpec; readonly warnings: readonly string[] } {
  if (request.config === null) throw invalid('config cannot be empty in order to create a container');
  checkNetworkMode(request.config, request.host);
  const renamed = withoutDefaultNetwork(request.host, request.endpoints);
  const adapted = adaptToVersion({ config: request.config, ...renamed }, minor, cgroupVersion);
  const warnings: string[] = [];
  const warning = volumeDriverWarning(adapted.host, minor);
  if (warning !== null) warnings.push(warning);
  const withMac = moveMacAddress(adapted, minor, warnings);
  const withSysctls = moveInterfaceSysctls(withMac, minor, warnings);
  const { config, host, endpoints } = withSysctls;
  const pidsLimit = host.PidsLimit !== null && host.PidsLimit <= 0 ? null : host.PidsLimit;
  return {
    spec: {
      process: parseContainerConfig(config),
      host: parseHostConfig({ ...host, PidsLimit: pidsLimit }),
      endpoints: orderEndpoints(host.NetworkMode, endpoints),
    },
    warnings,
  };
}

interface Parts {
  readonly config: ContainerConfig;
  readonly host: HostConfig;
  readonly endpoints: Readonly<Record<string, EndpointSettings>>;
}

/** What moby's runconfig refuses before anything else. */
function checkNetworkMode(config: ContainerConfig, host: HostConfig): void {
  const mode = host.NetworkMode;
  const other = mode.startsWith('container:');
  if ((mode === 'container' || other) && mode.slice('container:'.length) === '')
    throw invalid('Invalid network mode: invalid container format container:<name|id>');
  if (other && config.Hostname !== '') throw invalid('conflicting options: hostname and the network mode');
  if (other && hasAny(host.Links))
    throw invalid(
      "conflicting options: container type network can't be used with links. This would result in undefined behavior",
    );
  if (other && hasAny(host.Dns)) throw invalid('conflicting options: dns and the network mode');
  if (other && hasAny(host.ExtraHosts))
    throw invalid('conflicting options: custom host-to-IP mapping and the network mode');
  if ((other || mode === 'host') && config.MacAddress !== '')
    throw invalid('conflicting options: mac-address and the network mode');
  if (other && (Object.keys(host.PortBindings ?? {}).length > 0 || host.PublishAllPorts))
    throw invalid('conflicting options: port publishing and the container type network mode');
  if (other && Object.keys(config.ExposedPorts ?? {}).length > 0)
    throw invalid('conflicting options: port exposing and the container type network mode');
  if (host.UTSMode === 'host' && config.Hostname !== '')
    throw invalid('conflicting options: hostname and the UTS mode');
  if (mode === 'host' && hasAny(host.Links))
    throw invalid(
      "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
    );
}

function withoutDefaultNetwork(host: HostConfig, endpoints: Parts['endpoints']): Omit<Parts, 'config'> {
  if (host.NetworkMode !== '' && host.NetworkMode !== 'default') return { host, endpoints };
  const { default: standard, ...rest } = endpoints;
  return {
    host: { ...host, NetworkMode: 'bridge' },
    endpoints: standard === undefined ? rest : { ...rest, bridge: standard },
  };
}

/** Fields that a client of that version could not have meant, and defaults that were others then. */
function adaptToVersion({ config, host, endpoints }: Parts, minor: number, cgroupVersion: '1' | '2'): Parts {
  const names = Object.keys(endpoints);
  if (minor < 44 && names.length > 1)
    throw invalid(`Container cannot be created with multiple network endpoints: ${names.join(', ')}`);
  return {
    config:
      minor < 44 && config.Healthcheck !== null
        ? { ...config, Healthcheck: { ...config.Healthcheck, StartInterval: 0 } }
        : config,
    host: {
      ...host,
      AutoRemove: minor < 25 ? false : host.AutoRemove,
      KernelMemory: minor < 42 ? host.KernelMemory : 0,
      KernelMemoryTCP: minor < 40 ? 0 : host.KernelMemoryTCP,
      IpcMode: minor < 40 && host.IpcMode === '' ? 'shareable' : host.IpcMode,
      CgroupnsMode: minor < 41 && host.CgroupnsMode === '' && cgroupVersion === '1' ? 'host' : host.CgroupnsMode,
      ConsoleSize: minor < 42 ? [0, 0] : host.ConsoleSize,
      Annotations: minor < 43 ? null : host.Annotations,
      Mounts: host.Mounts?.map((mount) => adaptMount(mount, minor)) ?? null,
    },
    endpoints: minor < 48 ? mapValues(endpoints, (settings) => ({ ...settings, GwPriority: 0 })) : endpoints,
  };
}

function volumeDriverWarning(host: HostConfig, minor: number): string | null {
  if (host.VolumeDriver === '' || minor < 48) return null;
  const ignored =
    host.Mounts?.some(
      ({ Type, VolumeOptions }) => Type === 'volume' && (VolumeOptions?.DriverConfig?.Name ?? '') === '',
    ) ?? false;
  if (!ignored) return null;
  return "WARNING: the container-wide volume-driver configuration is ignored for volumes specified via 'mount'. Use '--mount type=volume,volume-driver=...' instead";
}

/** The container-wide MAC address is the endpoint's since 1.44. */
function moveMacAddress(parts: Parts, minor: number, warnings: string[]): Parts {
  const { config, host, endpoints } = parts;
  const address = config.MacAddress;
  const main = isBridgeOrUser(host.NetworkMode);
  if (minor < 44) {
    if (address === '')
      return { ...parts, endpoints: mapValues(endpoints, (settings) => ({ ...settings, MacAddress: '' })) };
    if (!main) throw invalid('conflicting options: mac-address and the network mode');
    return {
      ...parts,
      endpoints: withMainEndpoint(parts, minor, (settings) => ({ ...settings, MacAddress: address })),
    };
  }
  if (address === '') return parts;
  warnings.push(
    'The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.',
  );
  const without = { ...parts, config: { ...config, MacAddress: '' } };
  if (!main) return without;
  return {
    ...without,
    endpoints: withMainEndpoint(parts, minor, (settings) => {
      if (settings.MacAddress !== '' && settings.MacAddress !== address) {
        throw invalid(
          'the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty',
        );
      }
      return { ...settings, MacAddress: address };
    }),
  };
}

/** "net.ipv4.conf.eth0.x" cannot be set before there is an eth0: since 1.48 the endpoint's driver options say it. */
function moveInterfaceSysctls(parts: Parts, minor: number, warnings: string[]): Parts {
  const { host } = parts;
  if (host.NetworkMode === 'host' || host.NetworkMode.startsWith('container:')) return parts;
  const moved: string[] = [];
  const settings: string[] = [];
  for (const [name, value] of Object.entries(host.Sysctls ?? {})) {
    const match = /^net\.([^.]*)\.([^.]*)\.(eth[^.]*)\.(.*)$/.exec(name);
    if (match === null) continue;
    if (minor > 47)
      throw invalid(
        `interface specific sysctl setting ${JSON.stringify(name)} must be supplied using driver option '${ENDPOINT_SYSCTLS}'`,
      );
    if (match[3] !== 'eth0')
      throw invalid(
        `unable to determine network endpoint for sysctl ${name}, use driver option '${ENDPOINT_SYSCTLS}' to set per-interface sysctls`,
      );
    moved.push(name);
    settings.push(`net.${match[1]}.${match[2]}.IFNAME.${match[4]}=${value}`);
  }
  if (moved.length === 0) return parts;
  const option = settings.join(',');
  warnings.push(
    `Migrated sysctl ${JSON.stringify(moved.join(','))} to DriverOpts{${JSON.stringify(ENDPOINT_SYSCTLS)}:${JSON.stringify(option)}}.`,
  );
  return {
    ...parts,
    host: {
      ...host,
      Sysctls: Object.fromEntries(Object.entries(host.Sysctls ?? {}).filter(([name]) => !moved.includes(name))),
    },
    endpoints: withMainEndpoint(parts, minor, (endpoint) => {
      const before = endpoint.DriverOpts?.[ENDPOINT_SYSCTLS];
      return {
        ...endpoint,
        DriverOpts: {
          ...endpoint.DriverOpts,
          [ENDPOINT_SYSCTLS]: before === undefined ? option : `${option},${before}`,
        },
      };
    }),
  };
}

/** Changes the endpoint that belongs to the network mode (moby: epConfigForNetMode). */
function withMainEndpoint(
  { host, endpoints }: Parts,
  minor: number,
  change: (settings: EndpointSettings) => EndpointSettings,
): Parts['endpoints'] {
  const names = Object.keys(endpoints);
  if (names.length === 0) return { [host.NetworkMode]: change(NO_ENDPOINT_SETTINGS) };
  const name = minor < 44 ? names[0]! : host.NetworkMode;
  const settings = endpoints[name];
  if (settings === undefined)
    throw invalid('HostConfig.NetworkMode must match the identity of a network in NetworkSettings.Networks');
  return { ...endpoints, [name]: change(settings) };
}

/** The network mode's endpoint first; that alone when none was given. */
function orderEndpoints(mode: string, endpoints: Parts['endpoints']): Record<string, EndpointSpec> {
  if (mode.startsWith('container:')) return {};
  if (Object.keys(endpoints).length === 0) return { [mode]: parseEndpoint(NO_ENDPOINT_SETTINGS) };
  const { [mode]: main, ...rest } = endpoints;
  return mapValues(main === undefined ? rest : { [mode]: main, ...rest }, parseEndpoint);
}

function isBridgeOrUser(mode: string): boolean {
  return mode !== 'host' && mode !== 'none' && !mode.startsWith('container:');
}

function hasAny(values: readonly unknown[] | null): boolean {
  return values !== null && values.length > 0;
}

function mapValues<T, U>(record: Readonly<Record<string, T>>, change: (value: T) => U): Record<string, U> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, change(value)]));
}

function invalid(message: string): EngineError {
  return new EngineError('CONTAINER_SPEC_INVALID', message);
}
