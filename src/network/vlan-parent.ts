/** Interfaces of the host that macvlan and ipvlan networks hang on. Source: moby daemon/libnetwork/drivers/macvlan, ipvlan (v28). */
import { EngineError } from '../core/engine-error.ts';
import { shortId } from '../core/id.ts';

/** "eth0.10": VLAN 10 of eth0, which moby makes where it is missing. null for any other name. */
export function subInterface(name: string): { readonly parent: string; readonly vlanId: number } | null {
  const match = /^(.+)\.(\d{1,4})$/.exec(name);
  const vlanId = Number(match?.[2]);
  return match === null || vlanId < 1 || vlanId > 4094 ? null : { parent: match[1]!, vlanId };
}

export interface ParentUser {
  readonly network: { readonly id: string; readonly driver: string };
  readonly vlan: { readonly parent: string; readonly mode: string } | null;
}

/**
 * macvlan networks share a parent unless one is in mode passthru; an ipvlan network has its own, as its mode is the
 * parent's. @throws {EngineError} NETWORK_IN_USE
 */
export function checkParent(
  driver: 'macvlan' | 'ipvlan',
  parent: string,
  mode: string,
  others: Iterable<ParentUser>,
): void {
  for (const { network, vlan } of others) {
    if (network.driver !== driver || vlan?.parent !== parent) continue;
    if (driver === 'ipvlan')
      throw inUse(`network di-${shortId(network.id)} is already using parent interface ${parent}`);
    if (mode === 'passthru')
      throw inUse(
        `cannot use mode passthru, macvlan network ${network.id} is already using parent interface ${parent}`,
      );
    if (vlan.mode === 'passthru')
      throw inUse(`macvlan network ${network.id} is already using parent interface ${parent} in mode passthru`);
  }
}

function inUse(message: string): EngineError {
  return new EngineError('NETWORK_IN_USE', message);
}

/** The parent's name when it is ours to make and to take away, "" for an interface of the host. */
export function placeParent(
  parent: string,
  exists: (name: string) => boolean,
  networks: readonly { readonly bridgeName: string }[],
): string {
  if (networks.some(({ bridgeName }) => bridgeName === parent)) return parent;
  if (exists(parent)) return '';
  const sub = subInterface(parent);
  if (sub !== null && exists(sub.parent)) return parent;
  throw new EngineError('NETWORK_SPEC_INVALID', `parent interface ${parent} was not found on the host`);
}
