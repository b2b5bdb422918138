/** What /info and /version show: the host's facts and this daemon's settings, put together when asked. */
import { randomUUID } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';

import type { InfoFacts, System, VersionFacts } from '../api/port.ts';
import { formatTime, systemClock } from '../core/clock.ts';
import { LOG_DRIVERS } from '../log/log-options.ts';
import { CDI_DRIVER, readCdiRegistry, type CdiRegistry } from '../runtime/cdi/cdi-registry.ts';
import type { HostFacts } from '../runtime/spec/input.ts';
import { readHostFacts } from './host-facts.ts';
import { apiWarnings, withoutPassword, type DaemonOptions } from './daemon-options.ts';
import type { Runtimes } from './runtimes.ts';
import { VERSION } from './version.ts';

export interface SystemNeeds {
  readonly options: DaemonOptions;
  readonly host: HostFacts;
  readonly cgroupDriver: 'cgroupfs' | 'systemd';
  readonly runtimes: Runtimes;
  /** null: there is none, and --init is refused. */
  readonly initPath: string | null;
  /** --userns-remap */
  readonly remapped: boolean;
}

export function openSystem(needs: SystemNeeds): System {
  const { options, host } = needs;
  const id = engineId(options.dataRoot);
  const version: VersionFacts = {
    version: VERSION,
    gitCommit: process.env['LONGSHORE_COMMIT'] ?? '',
    buildTime: '',
    nodeVersion: process.version,
    os: 'linux',
    arch: host.architecture,
    kernelVersion: release(),
    components: [],
  };
  return { version, info: () => infoFacts(id, needs) };
}

async function infoFacts(
  id: string,
  { options, host, cgroupDriver, runtimes, initPath, remapped }: SystemNeeds,
): Promise<InfoFacts> {
  const [facts, cdi] = await Promise.all([readHostFacts(options.dataRoot), readCdiRegistry(options.cdiSpecDirs)]);
  const { limits } = host;
  return {
    ...facts,
    id,
    dataRoot: options.dataRoot,
    cgroupDriver,
    cgroupVersion: host.cgroupVersion === 'v2' ? '2' : '1',
    controllers: {
      memory: limits.memory,
      swap: limits.swap,
      cpuCfs: limits.cpuCfs,
      cpuShares: limits.cpuShares,
      cpuset: limits.cpuset,
      pids: limits.pids,
      oomKillDisable: limits.oomKillDisable,
      kernelMemoryTcp: limits.kernelMemoryTcp,
      blkio: limits.blkioWeight || limits.blkioReadBps,
    },
    debug: options.logLevel === 'debug',
    systemTime: formatTime(systemClock.wallNs()),
    loggingDriver: options.logDriver,
    logDrivers: LOG_DRIVERS,
    networkDrivers: ['bridge', 'host', 'ipvlan', 'macvlan', 'null'],
    volumeDrivers: ['local'],
    runtimes: Object.fromEntries(
      Object.entries(runtimes.table).map(([name, { path, options: args }]) => [name, { path, args }]),
    ),
    defaultRuntime: runtimes.fallback,
    initBinary: initPath ?? '',
    securityOptions: [
      ...(host.apparmor ? ['name=apparmor'] : []),
      ...(host.seccomp ? [`name=seccomp,profile=${options.seccompProfile}`] : []),
      ...(remapped ? ['name=userns'] : []),
      ...(host.cgroupVersion === 'v2' ? ['name=cgroupns'] : []),
      ...(options.noNewPrivileges ? ['name=no-new-privileges'] : []),
    ],
    insecureRegistries: options.insecureRegistries, // the loopback ones are added where they are shown
    registryMirrors: options.registryMirrors,
    defaultAddressPools: options.network.networks.defaultAddressPools ?? [],
    labels: options.labels,
    experimental: false,
    liveRestore: options.liveRestore,
    httpProxy: withoutPassword(options.proxies.http),
    httpsProxy: withoutPassword(options.proxies.https),
    noProxy: options.proxies.no,
    warnings: [...apiWarnings(options), ...warnings(host), ...cdiWarnings(cdi)],
    cdiSpecDirs: options.cdiSpecDirs,
    discoveredDevices: [...cdi.devices.keys()].toSorted().map((id) => ({ source: CDI_DRIVER, id })),
  };
}

function cdiWarnings({ errors }: CdiRegistry): string[] {
  return [...errors].map(([path, why]) => `CDI: Error associated with spec file ${path}: ${why}`);
}

/** Source: moby daemon/info_unix.go fillPlatformInfo(), in its order. */
function warnings({ limits, cgroupVersion, ipv4Forwarding }: HostFacts): string[] {
  const throttle = (v1: string, v2: string): string =>
    cgroupVersion === 'v2' ? `No io.max (${v2}) support` : `No blkio throttle.${v1}_device support`;
  const missing: [boolean, string][] = [
    [limits.memory, 'No memory limit support'],
    [limits.swap, 'No swap limit support'],
    [limits.oomKillDisable || cgroupVersion === 'v2', 'No oom kill disable support'],
    [limits.cpuCfs, 'No cpu cfs quota support'],
    [limits.cpuCfs, 'No cpu cfs period support'],
    [limits.cpuShares, 'No cpu shares support'],
    [limits.cpuset, 'No cpuset support'],
    // On v1 no kernel has had them since 5.0, and nobody can do anything about it.
    [limits.blkioWeight || cgroupVersion === 'v1', 'No io.weight support'],
    [limits.blkioWeightDevice || cgroupVersion === 'v1', 'No io.weight (per device) support'],
    [limits.blkioReadBps, throttle('read_bps', 'rbps')],
    [limits.blkioWriteBps, throttle('write_bps', 'wbps')],
    [limits.blkioReadIops, throttle('read_iops', 'riops')],
    [limits.blkioWriteIops, throttle('write_iops', 'wiops')],
    [ipv4Forwarding, 'IPv4 forwarding is disabled'],
  ];
  return missing.filter(([there]) => !there).map(([, text]) => `WARNING: ${text}`);
}

/** The same for the life of the data root, as Docker's: whatever the file says. */
function engineId(dataRoot: string): string {
  const path = join(dataRoot, 'engine-id');
  try {
    const id = readFileSync(path, 'utf8').trim();
    if (id !== '') return id;
  } catch {
    // the first start
  }
  const id = randomUUID();
  writeFileSync(path, id, { mode: 0o600 });
  return id;
}
