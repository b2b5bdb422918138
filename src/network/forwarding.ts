/**
 * Makes a router of the host, which containers need: at boot for IPv4, with the first IPv6 network for IPv6. Source:
 * moby daemon/libnetwork/drivers/bridge/setup_ip_forwarding.go (v28).
 */
import type { Logger } from '../core/log.ts';
import type { Kernel } from '../kernel/port.ts';
import type { Family } from './address.ts';
import type { ForwardChain } from './forward-chain.ts';
import { readText } from './host-facts.ts';

/** The daemon's own namespace, for calls that take one. */
export const HOST_NAMESPACE = '/proc/self/ns/net';

const SWITCHES: Readonly<Record<Family, readonly string[]>> = {
  4: ['net/ipv4/ip_forward'],
  6: ['net/ipv6/conf/default/forwarding', 'net/ipv6/conf/all/forwarding'],
};

export interface ForwardingOptions {
  readonly kernel: Kernel;
  readonly logger: Logger;
  readonly chain: ForwardChain;
  /** --ip-forward */
  readonly enabled: boolean;
  /** --ip-forward-no-drop: what is not for containers is forwarded too, from the moment on that forwarding is. */
  readonly keepsOpen: boolean;
}

/** Where it is on already, nothing changes. */
export async function ensureForwarding(family: Family, options: ForwardingOptions): Promise<void> {
  if (!options.enabled) return;
  const { kernel, logger, chain, keepsOpen } = options;
  for (const name of SWITCHES[family]) {
    if ((await readText(`/proc/sys/${name}`)).trim() === '1') continue;
    try {
      if (!keepsOpen) await chain.closeRouter(family);
      await kernel.network.setSysctlIn(HOST_NAMESPACE, name, '1');
    } catch (error) {
      // Where /proc/sys is read-only (a container), somebody else has to do it.
      logger.warn({ name, err: error }, 'forwarding could not be switched on');
    }
  }
}
