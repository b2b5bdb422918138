/** For tests and benchmarks: what is asked of networks when their user asked for nothing. */
import type { AttachRequest, NetworkSpec } from './port.ts';

export const PLAIN_NETWORK: NetworkSpec = {
  name: 'n',
  driver: 'bridge',
  internal: false,
  attachable: false,
  ingress: false,
  enableIpv4: true,
  enableIpv6: false,
  ipam: { driver: '', options: null, configs: [] },
  options: {},
  labels: {},
  scope: '',
  configOnly: false,
  configFrom: '',
};

/** By a container. */
export const PLAIN_ATTACH: Omit<AttachRequest, 'containerId' | 'containerName' | 'hostname' | 'filesDir'> = {
  mode: 'bridge',
  endpoints: {},
  domainname: '',
  dns: null,
  dnsOptions: null,
  dnsSearch: null,
  extraHosts: null,
  links: [],
  exposedPorts: [],
  portBindings: {},
  publishAllPorts: false,
  sysctls: {},
};
