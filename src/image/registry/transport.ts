/**
 * Connections to a registry and to wherever it sends us (token servers, redirects), under one set of trust, as Go's
 * http.Transport, and through proxies where there are such.
 */
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';

import type { Certificates } from './certificates.ts';
import { proxyFor, type Proxies } from './proxy.ts';

export interface Transport extends Disposable {
  agentFor(url: URL): HttpAgent;
}

export function openTransport(options: {
  readonly proxies: Proxies;
  readonly certificates: Certificates;
  /** False: any certificate will do. */
  readonly isVerified: boolean;
}): Transport {
  const agents = new Map<string, HttpAgent>();
  const { proxies, certificates, isVerified } = options;
  return {
    agentFor: (url) => {
      const proxy = proxyFor(url, proxies);
      const key = `${url.protocol} ${proxy}`;
      let agent = agents.get(key);
      if (agent === undefined) {
        const common = {
          keepAlive: true,
          ...(proxy !== '' && { proxyEnv: { HTTP_PROXY: proxy, HTTPS_PROXY: proxy } }),
        };
        agent =
          url.protocol === 'https:'
            ? new HttpsAgent({ ...common, ...certificates, rejectUnauthorized: isVerified })
            : new HttpAgent(common);
        agents.set(key, agent);
      }
      return agent;
    },
    [Symbol.dispose]: () => {
      for (const agent of agents.values()) agent.destroy();
    },
  };
}
