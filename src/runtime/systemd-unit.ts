/**
 * The limits that systemd keeps of a container's scope. When it reloads it writes its own into the cgroup again, so it has
 * to have them: at the start as properties that crun and runc hand on (annotations), later by `systemctl set-property`.
 * Older cruns (1.8) set none of them but the CPU's weight. Source: systemd.resource-control(5), crun(1).
 */
import type { Processes } from '../kernel/port.ts';
import { weightOfShares } from './cgroup-update.ts';
import type { OciResources } from './spec/resources.ts';

const ANNOTATION = 'org.systemd.property.';
const UINT64_MAX = '18446744073709551615';
const SYSTEMCTL = '/usr/bin/systemctl';
const US_PER_S = 1_000_000;

/** Numbers of bytes, tasks and microseconds; null is "infinity". Only what is asked for. */
function propertiesOf({ memory, cpu, pids }: OciResources): Map<string, number | null> {
  const limit = (value: number): number | null => (value < 0 ? null : value);
  const properties = new Map<string, number | null>();
  if (memory?.limit !== undefined) properties.set('MemoryMax', limit(memory.limit));
  if (memory?.swap !== undefined) {
    properties.set('MemorySwapMax', memory.swap < 0 ? null : Math.max(0, memory.swap - (memory.limit ?? 0)));
  }
  if (memory?.reservation !== undefined) properties.set('MemoryLow', memory.reservation);
  if (pids !== undefined) properties.set('TasksMax', limit(pids.limit));
  if (cpu?.quota !== undefined) {
    const share = cpu.quota / (cpu.period ?? 100_000);
    properties.set('CPUQuotaPerSecUSec', cpu.quota < 0 ? null : Math.round(share * US_PER_S));
  }
  if (cpu?.period !== undefined) properties.set('CPUQuotaPeriodUSec', cpu.period);
  return properties;
}

/** For the OCI configuration of a scope. */
export function unitAnnotations(resources: OciResources = {}): Record<string, string> {
  return Object.fromEntries(
    [...propertiesOf(resources)].map(([name, value]) => [ANNOTATION + name, `uint64 ${value ?? UINT64_MAX}`]),
  );
}

/** As systemctl takes them. */
export function unitAssignments(resources: OciResources, version: 'v1' | 'v2'): string[] {
  const { shares } = resources.cpu ?? {};
  const weight =
    shares === undefined ? [] : version === 'v2' ? [`CPUWeight=${weightOfShares(shares)}`] : [`CPUShares=${shares}`];
  const rest = [...propertiesOf(resources)].map(([name, value]) => {
    if (name === 'CPUQuotaPerSecUSec')
      return `CPUQuota=${value === null ? '' : `${((value * 100) / US_PER_S).toFixed(2)}%`}`;
    if (name === 'CPUQuotaPeriodUSec') return `CPUQuotaPeriodSec=${value}us`;
    return `${name}=${value ?? 'infinity'}`;
  });
  return [...weight, ...rest];
}

/** @throws {Error} when systemd refuses */
export async function updateUnit(
  processes: Pick<Processes, 'spawn' | 'reap'>,
  unit: string,
  assignments: readonly string[],
): Promise<void> {
  if (assignments.length === 0) return;
  const argv = [SYSTEMCTL, 'set-property', '--runtime', unit, ...assignments];
  const { pid } = await processes.spawn({ path: SYSTEMCTL, argv, env: ['PATH=/usr/bin:/bin'], descriptors: [] });
  const { exitCode } = await processes.reap(pid);
  if (exitCode !== 0) throw new Error(`systemctl set-property ${unit} ${assignments.join(' ')} ended with ${exitCode}`);
}
