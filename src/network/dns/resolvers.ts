/**
 * The resolvers of all containers on user-defined networks. In the container's namespace a high port is bound and
 * nftables sends 127.0.0.11:53 there, so that the container itself may still bind port 53.
 * Source: moby daemon/libnetwork/resolver.go (v28).
 */
import { randomInt } from 'node:crypto';

import type { Clock } from '../../core/clock.ts';
import type { Logger } from '../../core/log.ts';
import type { Kernel } from '../../kernel/port.ts';
import { parseAddress } from '../address.ts';
import { INTERNAL_RESOLVER } from '../container-files.ts';
import type { LiveNetwork } from '../live-network.ts';
import type { EndpointState } from '../port.ts';
import type { SandboxRecord } from '../records.ts';
import { Forwarder } from './forwarder.ts';
import { lookupName, lookupReverse, type LookupSources } from './lookup.ts';
import { formatAnswer, formatFailure, RCODE, TYPE, type Answer, type Question } from './message.ts';
import { ResolverServer } from './server.ts';

/** As Docker's resolver says it. */
const TTL_S = 600;
const BIND_TRIES = 5;

export interface ResolversOptions {
  readonly kernel: Kernel;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly byId: (networkId: string) => LiveNetwork | undefined;
  readonly sandbox: (containerId: string) => SandboxRecord | undefined;
}

interface Running {
  readonly server: ResolverServer;
  readonly forwarder: Forwarder;
}

export class Resolvers {
  readonly #options: ResolversOptions;
  readonly #running = new Map<string, Running>();

  constructor(options: ResolversOptions) {
    this.#options = options;
  }

  /** `port`: where it listened before a restart of the daemon (the redirection is still there), or 0. Returns the port. */
  async start(sandbox: SandboxRecord, port: number): Promise<number> {
    const namespace = sandbox.namespacePath;
    if (namespace === null) throw new Error('a resolver needs a namespace of its own');
    await this.stop(sandbox.containerId);
    const { kernel, clock } = this.#options;
    const bound = await this.#bind(namespace, port);
    const forwarder = new Forwarder({ kernel, clock, namespace });
    const server = new ResolverServer(bound.udp, bound.tcp, (query, question, byTcp) =>
      this.#answer(sandbox.containerId, forwarder, query, question, byTcp),
    );
    this.#running.set(sandbox.containerId, { server, forwarder });
    try {
      if (bound.port !== port) await kernel.network.redirectPortIn(namespace, redirection(bound.port));
    } catch (error) {
      await this.stop(sandbox.containerId);
      throw error;
    }
    return bound.port;
  }

  async stop(containerId: string): Promise<void> {
    const running = this.#running.get(containerId);
    if (running === undefined) return;
    this.#running.delete(containerId);
    await Promise.all([running.server.close(), running.forwarder.close()]);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#running.keys()].map((containerId) => this.stop(containerId)));
  }

  async #bind(namespace: string, wanted: number): Promise<{ udp: number; tcp: number; port: number }> {
    const { network, processes } = this.#options.kernel;
    let failure: unknown;
    for (let attempt = 0; attempt < BIND_TRIES; attempt++) {
      const port = attempt === 0 ? wanted : 0;
      try {
        const udp = await network.bindSocket({ namespace, type: 'udp', address: INTERNAL_RESOLVER, port });
        try {
          const tcp = await network.bindSocket({ namespace, type: 'tcp', address: INTERNAL_RESOLVER, port: udp.port });
          return { udp: udp.fd, tcp: tcp.fd, port: udp.port };
        } catch (error) {
          await processes.closeDescriptor(udp.fd);
          throw error;
        }
      } catch (error) {
        failure = error; // most likely the number is taken for the other protocol
      }
    }
    throw failure;
  }

  async #answer(
    containerId: string,
    forwarder: Forwarder,
    query: Buffer,
    question: Question,
    byTcp: boolean,
  ): Promise<Buffer> {
    const sandbox = this.#options.sandbox(containerId);
    if (sandbox === undefined) return formatFailure(query, question, RCODE.SERVER_FAILURE);
    const local = question.isInternet ? answerLocally(sandbox, question, this.#options) : null;
    if (local !== null) return formatAnswer(query, question, local, TTL_S);
    // A container that cannot reach out has nobody to ask; asking its own resolver would go round for ever.
    const upstreams = this.#reachesOut(sandbox)
      ? sandbox.upstreams.filter(({ address, fromHost }) => fromHost || address !== INTERNAL_RESOLVER)
      : [];
    try {
      return (
        (await forwarder.ask(query, question, upstreams, byTcp)) ?? formatFailure(query, question, RCODE.SERVER_FAILURE)
      );
    } catch (error) {
      this.#options.logger.error({ containerId, err: error }, 'a name could not be resolved');
      return formatFailure(query, question, RCODE.SERVER_FAILURE);
    }
  }

  #reachesOut(sandbox: SandboxRecord): boolean {
    return sandbox.endpoints.some(({ state }) => this.#options.byId(state.networkId)?.network.internal === false);
  }
}

/** null: the name is not ours. An empty list: it is, but has nothing of that type. */
export function answerLocally(sandbox: SandboxRecord, question: Question, sources: LookupSources): Answer[] | null {
  if (question.type === TYPE.PTR) {
    const name = lookupReverse(sandbox, question.name, sources);
    return name === null ? null : [{ kind: 'name', name }];
  }
  const endpoints = lookupName(sandbox, question.name, sources);
  if (endpoints === null) return null;
  const both = question.type === TYPE.ANY;
  const addresses = endpoints.flatMap((endpoint) => [
    ...(both || question.type === TYPE.A ? addressBytes(endpoint, 4) : []),
    ...(both || question.type === TYPE.AAAA ? addressBytes(endpoint, 6) : []),
  ]);
  return rotate(addresses).map((bytes) => ({ kind: 'address', bytes }));
}

function addressBytes(endpoint: EndpointState, family: 4 | 6): Uint8Array[] {
  const address = parseAddress(family === 4 ? endpoint.ipv4Address : endpoint.ipv6Address);
  if (address === null) return [];
  return [Buffer.from(address.value.toString(16).padStart(family === 4 ? 8 : 32, '0'), 'hex')];
}

/** Each of several containers with one name is first in turn. */
function rotate<T>(list: readonly T[]): T[] {
  if (list.length < 2) return [...list];
  const start = randomInt(list.length);
  return [...list.slice(start), ...list.slice(0, start)];
}

/** Replaces what a resolver before this one left there. */
function redirection(port: number): Parameters<Kernel['network']['redirectPortIn']>[1] {
  return { table: 'longshore_dns', address: INTERNAL_RESOLVER, port: 53, to: port };
}
