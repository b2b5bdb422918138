/**
 * Checks what a user asks of a new network, and reads the options of its driver. Pure.
 * Source: moby daemon/network.go, daemon/libnetwork/controller.go, drivers/bridge/bridge_linux.go,
 * api/types/network/ipam.go (v28).
 */
import { EngineError } from '../core/engine-error.ts';
import {
  contains,
  formatSubnet,
  overlaps,
  parseAddress,
  parseCidr,
  type Address,
  type Family,
  type Subnet,
} from './address.ts';
import type { IpamConfig, Network, NetworkSpec, NetworkWish } from './port.ts';

export const PREDEFINED = ['bridge', 'host', 'none', 'default'] as const;
export const MTU_DEFAULT = 1500;
/** A bridge takes no more. */
const MTU_MAX = 65_535;

const BRIDGE = 'com.docker.network.bridge.';
const INTERFACE_NAME_MAX = 15; // IFNAMSIZ - 1

export type GatewayMode = 'nat' | 'nat-unprotected' | 'routed' | 'isolated';

export interface BridgeOptions {
  /** "" : made from the network's ID. */
  readonly name: string;
  readonly icc: boolean;
  readonly masquerade: boolean;
  /** Where published ports without an address listen. */
  readonly hostBinding: Address;
  readonly mtu: number;
  /** What leaves the network has this source address; null: that of the interface it leaves by. */
  readonly sourceAddress: Readonly<Record<Family, Address | null>>;
  readonly gatewayMode: Readonly<Record<Family, GatewayMode>>;
  /** The host gets no IPv4 address on the bridge. */
  readonly inhibitIpv4: boolean;
  readonly interfacePrefix: string;
  /** Interfaces of the host from which published ports are also reached at the container's own address. */
  readonly trusted: readonly string[];
}

export interface VlanOptions {
  /** "" : a link of our own, which leads nowhere. */
  readonly parent: string;
  readonly mode: string;
  /** null: the parent's. */
  readonly mtu: number | null;
}

/** @throws EngineError with moby's words */
export function checkSpec(spec: NetworkSpec): void {
  if (spec.name.trim() === '') throw invalid('invalid name: name is empty');
  if (spec.name.startsWith('container:') || spec.name.includes('/') || /[\0\n]/.test(spec.name))
    throw invalid(`invalid name: ${spec.name}`);
  if ((PREDEFINED as readonly string[]).includes(spec.name)) {
    throw new EngineError('NETWORK_PREDEFINED', `operation is not permitted on predefined ${spec.name} network `);
  }
  checkDriver(spec);
  const isBridge = spec.driver === 'bridge' && !spec.configOnly;
  if (isBridge && !spec.enableIpv4 && !spec.enableIpv6) throw invalid('IPv4 or IPv6 must be enabled');
  checkIpam(spec.ipam.configs, spec.enableIpv6);
  if (spec.ipam.driver !== '' && spec.ipam.driver !== 'default' && spec.ipam.driver !== 'null') {
    throw new EngineError('NETWORK_DRIVER_UNKNOWN', `plugin "${spec.ipam.driver}" not found`);
  }
  if (spec.ipam.driver === 'null' && !spec.configOnly) checkNoIpam(spec);
  if (spec.configOnly && spec.configFrom !== '')
    throw invalid('a configuration network cannot depend on another configuration network');
  if (spec.configFrom !== '' && (spec.ipam.configs.length > 0 || Object.keys(spec.options).length > 0)) {
    throw invalid('user specified configurations are not supported if the network depends on a configuration network');
  }
  if (isBridge) {
    const { gatewayMode: modes } = bridgeOptions(spec.options);
    if (!spec.internal && (modes[4] === 'isolated' || modes[6] === 'isolated'))
      throw invalid("gateway mode 'isolated' can only be used for an internal network");
  }
}

/** The IPAM driver "null" gives no addresses: for macvlan and ipvlan alone. Source: moby daemon/libnetwork/ipams/null (v28). */
function checkNoIpam({ driver, enableIpv6, ipam }: NetworkSpec): void {
  if (ipam.configs.length > 0) throw invalid('null ipam driver does not handle specific address pool requests');
  if (enableIpv6) throw invalid('null ipam driver does not handle IPv6 address pool requests');
  if (driver === 'bridge') throw invalid('ipv4 pool is empty');
}

/**
 * Whether an address is kept for the way out where the user names none. Not where no packet could go that way.
 * Source: moby's drivers, GetSkipGwAlloc (v28).
 */
export function takesGateway(
  { driver, internal, options }: Pick<NetworkSpec, 'driver' | 'internal' | 'options'>,
  family: Family,
): boolean {
  if (driver === 'bridge') {
    const { gatewayMode: modes, inhibitIpv4 } = bridgeOptions(options);
    return !internal || (modes[family] !== 'isolated' && !(family === 4 && inhibitIpv4));
  }
  if (driver !== 'macvlan' && driver !== 'ipvlan') return true;
  const { parent, mode } = vlanOptions(driver, options);
  return parent !== '' && mode !== 'l3' && mode !== 'l3s';
}

/** @throws NETWORK_SPEC_INVALID for an option that is no boolean */
export function enabledFamilies(
  { enableIpv4, enableIpv6 }: Pick<NetworkWish, 'enableIpv4' | 'enableIpv6'>,
  options: Readonly<Record<string, string>>,
): Pick<NetworkSpec, 'enableIpv4' | 'enableIpv6'> {
  const option = (family: Family, byDefault: boolean): boolean => {
    const key = `com.docker.network.enable_ipv${family}`;
    const value = options[key];
    if (value === undefined) return byDefault;
    const parsed = parseBoolean(value);
    if (parsed === null) throw invalid(`driver-opt "${key}" is not a valid bool`);
    return parsed;
  };
  return { enableIpv4: enableIpv4 ?? option(4, true), enableIpv6: enableIpv6 ?? option(6, false) };
}

function checkDriver(spec: NetworkSpec): void {
  const needsSwarm = spec.driver === 'overlay' || spec.ingress || spec.scope === 'swarm' || spec.scope === 'global';
  if (needsSwarm) {
    throw new EngineError(
      'NOT_A_SWARM_MANAGER',
      'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.',
    );
  }
  if (spec.scope !== '' && spec.scope !== 'local') throw invalid(`invalid network scope: ${spec.scope}`);
  if (spec.configOnly) return; // It has no driver of its own.
  switch (spec.driver) {
    case 'bridge':
    case 'macvlan':
    case 'ipvlan':
      return;
    case 'host':
    case 'null':
      throw new EngineError('NETWORK_PREDEFINED', `only one instance of "${spec.driver}" network is allowed`);
    default:
      throw new EngineError('NETWORK_DRIVER_UNKNOWN', `plugin "${spec.driver}" not found`);
  }
}

/** Of families that are off, in the order in which they would have been. */
export function idleConfigs(spec: NetworkSpec): Pick<Network, 'idleConfigs'> {
  const isOn = (family: Family | undefined): boolean =>
    spec.configOnly || (family === 6 ? spec.enableIpv6 : spec.enableIpv4);
  const idle = spec.ipam.configs.filter(({ subnet }) => !isOn(parseCidr(subnet)?.subnet.family));
  return idle.length === 0 ? {} : { idleConfigs: idle };
}

/** moby api/types/network ValidateIPAM: all complaints at once. */
export function checkIpam(configs: readonly IpamConfig[], enableIpv6: boolean): void {
  const errors = configs.flatMap((config) => ipamErrors(config, enableIpv6));
  if (errors.length === 0) return;
  throw invalid(`invalid network config:\n${joinErrors(errors)}`);
}

/** As moby's internal/multierror prints a list. */
export function joinErrors(errors: readonly string[]): string {
  if (errors.length === 1) return errors[0]!;
  return errors.map((error) => `* ${error.replaceAll('\n', '\n\t')}`).join('\n');
}

function ipamErrors(config: IpamConfig, enableIpv6: boolean): string[] {
  const parsed = parseCidr(config.subnet);
  if (parsed === null) return [`invalid subnet ${config.subnet}: invalid CIDR block notation`];
  const { subnet } = parsed;
  if (subnet.family === 6 && !enableIpv6) return [];
  const errors: string[] = [];
  if (parsed.address.value !== subnet.base)
    errors.push(`invalid subnet ${config.subnet}: it should be ${formatSubnet(subnet)}`);
  errors.push(...rangeErrors(config.ipRange, subnet));
  const gateway = addressError(config.gateway, subnet);
  if (gateway !== null) errors.push(`invalid gateway ${config.gateway}: ${gateway}`);
  for (const [name, address] of Object.entries(config.auxAddresses ?? {})) {
    const error = addressError(address, subnet);
    if (error !== null) errors.push(`invalid auxiliary address ${name}: ${error}`);
  }
  return errors;
}

function rangeErrors(text: string, subnet: Subnet): string[] {
  if (text === '') return [];
  const parsed = parseCidr(text);
  if (parsed === null) return [`invalid ip-range ${text}: invalid CIDR block notation`];
  const range = parsed.subnet;
  if (range.family !== subnet.family)
    return [`invalid ip-range ${text}: parent subnet is an IPv${subnet.family} block`];
  const errors: string[] = [];
  if (range.prefixLength < subnet.prefixLength) {
    errors.push(`invalid ip-range ${text}: CIDR block is bigger than its parent subnet ${formatSubnet(subnet)}`);
  }
  if (parsed.address.value !== range.base) errors.push(`invalid ip-range ${text}: it should be ${formatSubnet(range)}`);
  if (!overlaps(range, subnet))
    errors.push(`invalid ip-range ${text}: parent subnet ${formatSubnet(subnet)} doesn't contain ip-range`);
  return errors;
}

function addressError(text: string, subnet: Subnet): string | null {
  if (text === '') return null;
  const address = parseAddress(text);
  if (address === null) return 'invalid address';
  if (address.family !== subnet.family) return `parent subnet is an IPv${subnet.family} block`;
  if (!contains(subnet, address)) return `parent subnet ${formatSubnet(subnet)} doesn't contain this address`;
  return null;
}

/** @throws NETWORK_SPEC_INVALID naming the option whose value cannot be read */
export function bridgeOptions(options: Readonly<Record<string, string>>): BridgeOptions {
  const name = options[`${BRIDGE}name`] ?? '';
  if (name !== '') checkInterfaceName(name);
  const trusted = (options[`${BRIDGE}trusted_host_interfaces`] ?? '').split(':').filter((text) => text !== '');
  trusted.forEach(checkInterfaceName);
  const hostBinding = parseAddress(options[`${BRIDGE}host_binding_ipv4`] || '0.0.0.0');
  if (hostBinding === null) throw unreadable(`${BRIDGE}host_binding_ipv4`, options, 'nil ip');
  return {
    name,
    trusted,
    icc: booleanOption(options, `${BRIDGE}enable_icc`, true),
    masquerade: booleanOption(options, `${BRIDGE}enable_ip_masquerade`, true),
    hostBinding,
    mtu: mtuOption(options) ?? MTU_DEFAULT,
    sourceAddress: { 4: sourceAddress(options, 4), 6: sourceAddress(options, 6) },
    gatewayMode: { 4: gatewayMode(options, 4), 6: gatewayMode(options, 6) },
    inhibitIpv4: booleanOption(options, `${BRIDGE}inhibit_ipv4`, false),
    interfacePrefix: options['com.docker.network.container_iface_prefix'] || 'eth',
  };
}

export function vlanOptions(driver: 'macvlan' | 'ipvlan', options: Readonly<Record<string, string>>): VlanOptions {
  const parent = options['parent'] ?? '';
  if (parent !== '') checkInterfaceName(parent);
  if (parent === 'lo') throw invalid(`loopback interface is not a valid ${driver} parent link`);
  const key = `${driver}_mode`;
  const mode = options[key] || (driver === 'macvlan' ? 'bridge' : 'l2');
  const modes = driver === 'macvlan' ? ['bridge', 'private', 'vepa', 'passthru'] : ['l2', 'l3', 'l3s'];
  if (!modes.includes(mode))
    throw invalid(
      `requested ${driver} mode '${mode}' is not valid, '${modes[0]}' mode is the ${driver} driver default`,
    );
  const flag = options['ipvlan_flag'] || 'bridge';
  if (driver === 'ipvlan' && !['bridge', 'private', 'vepa'].includes(flag))
    throw invalid(`requested ipvlan flag '${flag}' is not valid, 'bridge' is the ipvlan driver default`);
  if (flag !== 'bridge') throw new EngineError('OPTION_UNSUPPORTED', `option ipvlan_flag=${flag} is not supported`);
  return { parent, mode, mtu: mtuOption(options) };
}

function checkInterfaceName(name: string): void {
  if (
    name.length > INTERFACE_NAME_MAX ||
    !/^[^\s/:%]+$/.test(name) ||
    name === '.' ||
    name === '..' ||
    name.includes('"')
  ) {
    throw invalid(`invalid interface name: ${name}`);
  }
}

function gatewayMode(options: Readonly<Record<string, string>>, family: Family): GatewayMode {
  const key = `${BRIDGE}gateway_mode_ipv${family}`;
  const value = options[key] || 'nat';
  if (value === 'nat' || value === 'nat-unprotected' || value === 'routed' || value === 'isolated') return value;
  throw unreadable(key, options, `unknown gateway mode ${value}`);
}

function sourceAddress(options: Readonly<Record<string, string>>, family: Family): Address | null {
  const key = `com.docker.network.host_ipv${family}`;
  const value = options[key];
  if (value === undefined) return null;
  const address = parseAddress(value);
  if (address?.family !== family) throw unreadable(key, options, 'nil ip');
  return address;
}

function booleanOption(options: Readonly<Record<string, string>>, key: string, byDefault: boolean): boolean {
  const value = options[key];
  if (value === undefined || value === '') return byDefault;
  const parsed = parseBoolean(value);
  if (parsed === null) throw unreadable(key, options, `strconv.ParseBool: parsing "${value}": invalid syntax`);
  return parsed;
}

/** Go's strconv.ParseBool; null for what is none. */
function parseBoolean(value: string): boolean | null {
  if (/^(1|t|T|TRUE|true|True)$/.test(value)) return true;
  return /^(0|f|F|FALSE|false|False)$/.test(value) ? false : null;
}

function mtuOption(options: Readonly<Record<string, string>>): number | null {
  const key = 'com.docker.network.driver.mtu';
  const value = options[key];
  if (value === undefined || value === '') return null;
  if (!/^[+-]?\d+$/.test(value)) throw unreadable(key, options, `strconv.Atoi: parsing "${value}": invalid syntax`);
  const mtu = Number(value);
  if (mtu < 0 || mtu > MTU_MAX) throw invalid(`invalid MTU number: ${mtu}`);
  return mtu === 0 ? null : mtu;
}

/** Of a driver's option, in moby's words. */
function unreadable(key: string, options: Readonly<Record<string, string>>, why: string): EngineError {
  return invalid(`failed to parse ${key} value: ${options[key]} (${why})`);
}

function invalid(message: string): EngineError {
  return new EngineError('NETWORK_SPEC_INVALID', message);
}
