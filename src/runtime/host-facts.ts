/** What this host can do, read from /proc, /sys and the cgroups once at boot. Source: moby pkg/sysinfo (v28). */
import { access, readdir, readFile } from 'node:fs/promises';
import { release } from 'node:os';

import type { Cgroups, Kernel } from '../kernel/port.ts';
import { hasApparmor } from './apparmor.ts';
import { CAPABILITIES } from './spec/capabilities.ts';
import type { HostFacts, HostLimits } from './spec/input.ts';
import { parseNumberList } from './spec/validate-resources.ts';

const GOARCH: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386', loong64: 'loong64' };

/** From 5.16 on the file takes a limit and does nothing. */
const KERNEL_MEMORY_UNTIL = 5016;

export async function readHostFacts(kernel: Pick<Kernel, 'cgroups' | 'seccomp'>): Promise<HostFacts> {
  const [status, forwarding, apparmor, online] = await Promise.all([
    text('/proc/self/status'),
    text('/proc/sys/net/ipv4/ip_forward'),
    hasApparmor(),
    text('/sys/devices/system/cpu/online'),
  ]);
  const cpus = [...(parseNumberList(online) ?? [])];
  const [major = 0, minor = 0] = release().split('.').map(Number);
  const cpusetRoot = rootOf(kernel.cgroups, 'cpuset');
  const isV2 = kernel.cgroups.version === 'v2';
  const cpuset = async (what: 'cpus' | 'mems', otherwise: string): Promise<string> => {
    const file = isV2 ? `cpuset.${what}.effective` : `cpuset.${what}`;
    return (cpusetRoot === null ? '' : await text(`${cpusetRoot}/${file}`)) || otherwise;
  };
  return {
    architecture: GOARCH[process.arch] ?? process.arch,
    kernelVersion: [major, minor],
    cpuCount: Math.max(cpus.length, 1),
    cpusAvailable: await cpuset('cpus', online),
    memsAvailable: await cpuset('mems', '0'),
    cgroupVersion: kernel.cgroups.version,
    capabilities: heldCapabilities(status),
    seccomp: /^Seccomp:/m.test(status),
    apparmor,
    thermalThrottleCpus: await filterAsync(cpus, (cpu) => exists(`/sys/devices/system/cpu/cpu${cpu}/thermal_throttle`)),
    ipv4Forwarding: forwarding === '1',
    cgroupNamespaces: await exists('/proc/self/ns/cgroup'),
    pingGroupRange: await exists('/proc/sys/net/ipv4/ping_group_range'),
    unprivilegedPortStart: await exists('/proc/sys/net/ipv4/ip_unprivileged_port_start'),
    limits: await readLimits(kernel.cgroups, major * 1000 + minor),
  };
}

/** What the daemon may hand on: in its bounding set (what a runtime keeps) and permitted (what a runtime has). */
export function heldCapabilities(status: string): string[] {
  const set = (name: string): bigint =>
    BigInt(`0x${new RegExp(`^${name}:\\s*([0-9a-f]+)`, 'm').exec(status)?.[1] ?? '0'}`);
  const held = set('CapBnd') & set('CapPrm');
  return CAPABILITIES.filter((_, bit) => (held >> BigInt(bit)) & 1n);
}

async function readLimits(cgroups: Cgroups, kernel: number): Promise<HostLimits> {
  return cgroups.version === 'v2' ? limitsV2(cgroups) : limitsV1(cgroups, kernel);
}

async function limitsV1(cgroups: Cgroups, kernel: number): Promise<HostLimits> {
  const has = (controller: string, file: string): Promise<boolean> => hasFile(cgroups, controller, file);
  return {
    memory: cgroups.controllers.includes('memory'),
    swap: await has('memory', 'memory.memsw.limit_in_bytes'),
    memoryReservation: await has('memory', 'memory.soft_limit_in_bytes'),
    memorySwappiness: await has('memory', 'memory.swappiness'),
    oomKillDisable: await has('memory', 'memory.oom_control'),
    kernelMemory: kernel < KERNEL_MEMORY_UNTIL && (await has('memory', 'memory.kmem.limit_in_bytes')),
    kernelMemoryTcp: await has('memory', 'memory.kmem.tcp.limit_in_bytes'),
    cpuShares: await has('cpu', 'cpu.shares'),
    cpuCfs: await has('cpu', 'cpu.cfs_quota_us'),
    cpuRealtime: await has('cpu', 'cpu.rt_period_us'),
    cpuset: cgroups.controllers.includes('cpuset'),
    pids: cgroups.controllers.includes('pids'),
    blkioWeight: await has('blkio', 'blkio.weight'),
    blkioWeightDevice: await has('blkio', 'blkio.weight_device'),
    blkioReadBps: await has('blkio', 'blkio.throttle.read_bps_device'),
    blkioWriteBps: await has('blkio', 'blkio.throttle.write_bps_device'),
    blkioReadIops: await has('blkio', 'blkio.throttle.read_iops_device'),
    blkioWriteIops: await has('blkio', 'blkio.throttle.write_iops_device'),
  };
}

/** What v2 has no word for (swappiness, "never kill", TCP memory, realtime) cannot be limited there. */
async function limitsV2(cgroups: Cgroups): Promise<HostLimits> {
  const has = (controller: string): boolean => cgroups.controllers.includes(controller);
  const io = has('io');
  const weight = io && (await hasWeightV2(cgroups));
  return {
    memory: has('memory'),
    swap: has('memory') && (await hasSwapV2(cgroups)),
    memoryReservation: has('memory'),
    memorySwappiness: false,
    oomKillDisable: false,
    kernelMemory: false,
    kernelMemoryTcp: false,
    cpuShares: has('cpu'),
    cpuCfs: has('cpu'),
    cpuRealtime: false,
    cpuset: has('cpuset'),
    pids: has('pids'),
    blkioWeight: weight,
    blkioWeightDevice: weight,
    blkioReadBps: io,
    blkioWriteBps: io,
    blkioReadIops: io,
    blkioWriteIops: io,
  };
}

/** The root cgroup has no memory.swap.max: the first child tells (swap accounting may be off by a boot option). */
async function hasSwapV2(cgroups: Cgroups): Promise<boolean> {
  return (await anyChildHas(cgroups, 'memory.swap.max')) || !(await anyChildHas(cgroups, 'memory.max'));
}

/** Like that: where no child has been given I/O files yet, nothing says that the kernel has no weights. */
async function hasWeightV2(cgroups: Cgroups): Promise<boolean> {
  const weights = await Promise.all(['io.bfq.weight', 'io.weight'].map((file) => anyChildHas(cgroups, file)));
  return weights.includes(true) || !(await anyChildHas(cgroups, 'io.max'));
}

async function anyChildHas(cgroups: Cgroups, file: string): Promise<boolean> {
  const root = rootOf(cgroups, 'memory');
  if (root === null) return false;
  const entries = await readdir(root, { withFileTypes: true }).catch(() => []);
  const children = entries.filter((entry) => entry.isDirectory()).slice(0, 32);
  const found = await filterAsync(children, (entry) => exists(`${root}/${entry.name}/${file}`));
  return found.length > 0;
}

async function hasFile(cgroups: Cgroups, controller: string, file: string): Promise<boolean> {
  const root = rootOf(cgroups, controller);
  return root !== null && ((await exists(`${root}/${file}`)) || childHasV1(root, file));
}

/** Some files (memory.oom_control in late kernels) exist below the root only. */
async function childHasV1(root: string, file: string): Promise<boolean> {
  const entries = await readdir(root, { withFileTypes: true }).catch(() => []);
  const child = entries.find((entry) => entry.isDirectory());
  return child !== undefined && exists(`${root}/${child.name}/${file}`);
}

/** null: the controller is not mounted. */
function rootOf(cgroups: Cgroups, controller: string): string | null {
  try {
    return cgroups.directory(controller, '/x').slice(0, -'/x'.length);
  } catch {
    return null;
  }
}

async function filterAsync<T>(values: readonly T[], test: (value: T) => Promise<boolean>): Promise<T[]> {
  const kept = await Promise.all(values.map(test));
  return values.filter((_, i) => kept[i]);
}

async function text(path: string): Promise<string> {
  return (await readFile(path, 'utf8').catch(() => '')).trim();
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
