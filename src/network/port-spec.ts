/**
 * Published ports as users write them, and which mappings follow. Pure.
 * Source: docker/go-connections nat, moby daemon/libnetwork/drivers/bridge/port_mapping_linux.go (v28).
 */
import type { PortBinding } from '../core/container-spec.ts';
import { EngineError } from '../core/engine-error.ts';
import { parseAddress, type Address } from './address.ts';
import type { Protocol } from './ruleset.ts';

export interface ContainerPort {
  readonly protocol: Protocol;
  readonly port: number;
}

/** Host ports to choose from; null is any ephemeral one. */
export type PortRange = { readonly first: number; readonly last: number } | null;

/** Bindings that get the same host port: they differ in the host's address only. */
export interface PortWish {
  readonly key: string;
  readonly container: ContainerPort;
  /** null: the network's default address. */
  readonly addresses: readonly (Address | null)[];
  readonly range: PortRange;
}

/** "80/tcp", "80", "8000-8010/udp" → one entry per port. @throws PARAMETER_INVALID */
export function parseExposedPort(text: string): ContainerPort[] {
  const match = /^(\d+)(?:-(\d+))?(?:\/([A-Za-z]+))?$/.exec(text);
  if (match === null) throw new EngineError('PARAMETER_INVALID', `invalid port specification: "${text}"`);
  const protocol = (match[3] ?? 'tcp').toLowerCase();
  if (protocol !== 'tcp' && protocol !== 'udp' && protocol !== 'sctp')
    throw new EngineError('PARAMETER_INVALID', `invalid proto: ${protocol}`);
  const first = portNumber(match[1]!, text);
  const last = match[2] === undefined ? first : portNumber(match[2], text);
  if (last < first) throw new EngineError('PARAMETER_INVALID', `invalid port range: ${text}`);
  return Array.from({ length: last - first + 1 }, (_, index) => ({ protocol, port: first + index }));
}

export function portKey({ protocol, port }: ContainerPort): string {
  return `${port}/${protocol}`;
}

/** Exact ports come before ranges, ranges before ephemeral ones, so that the exact ones get what they ask for. */
export function portWishes(
  bindings: Readonly<Record<string, readonly PortBinding[]>>,
  exposed: readonly string[],
  publishAll: boolean,
): PortWish[] {
  const wishes = new Map<
    string,
    { key: string; container: ContainerPort; addresses: (Address | null)[]; range: PortRange }
  >();
  for (const [key, list] of Object.entries(bindings)) {
    const ports = parseExposedPort(key);
    for (const container of ports) {
      for (const binding of list.length === 0 ? [{ hostIp: '', hostPort: '' }] : list) {
        const range = parseHostPort(binding.hostPort);
        const address = parseHostIp(binding.hostIp);
        const id = `${portKey(container)} ${range === null ? '' : `${range.first}-${range.last}`}`;
        const wish = wishes.get(id);
        if (wish === undefined) wishes.set(id, { key: portKey(container), container, addresses: [address], range });
        else wish.addresses.push(address);
      }
    }
  }
  if (publishAll) {
    const bound = new Set([...wishes.values()].map(({ key }) => key));
    for (const container of exposed.flatMap(parseExposedPort)) {
      const key = portKey(container);
      if (bound.has(key)) continue;
      bound.add(key);
      wishes.set(`${key} `, { key, container, addresses: [null], range: null });
    }
  }
  const rank = ({ range }: PortWish): number => (range === null ? 2 : range.first === range.last ? 0 : 1);
  return [...wishes.values()].toSorted((a, b) => rank(a) - rank(b) || a.container.port - b.container.port);
}

function parseHostPort(text: string): PortRange {
  if (text === '' || text === '0') return null;
  const match = /^(\d+)(?:-(\d+))?$/.exec(text);
  if (match === null) throw new EngineError('PARAMETER_INVALID', `invalid port specification: "${text}"`);
  const first = portNumber(match[1]!, text);
  const last = match[2] === undefined ? first : portNumber(match[2], text);
  if (first === 0 || last < first) throw new EngineError('PARAMETER_INVALID', `invalid port range: ${text}`);
  return { first, last };
}

function parseHostIp(text: string): Address | null {
  if (text === '') return null;
  const address = parseAddress(text.replace(/^\[(.*)\]$/, '$1'));
  if (address === null) throw new EngineError('PARAMETER_INVALID', `invalid IP address: ${text}`);
  return address;
}

function portNumber(text: string, whole: string): number {
  const number = Number(text);
  if (number > 65_535) throw new EngineError('PARAMETER_INVALID', `invalid port specification: "${whole}"`);
  return number;
}
