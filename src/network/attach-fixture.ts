/** For tests and benchmarks: what a container asks of its networks when its user asked for nothing. */
import type { AttachRequest } from './port.ts';

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
