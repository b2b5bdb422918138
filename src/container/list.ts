/** `docker ps`: which containers a list shows. Source: moby daemon/list.go (v28). */
import { EngineError } from '../core/engine-error.ts';
import type { Container } from '../lifecycle/container.ts';
import { countsAsRunning, everRan, lastExit } from '../lifecycle/state.ts';
import type { Network } from '../network/port.ts';
import { describe, describeBriefly } from './details.ts';
import { booleanOf, checkFilterNames, matcherOf, matchesLabels, valuesOf } from './filters.ts';
import { linkNames } from './links.ts';
import type { Parts } from './parts.ts';
import type { ContainerDetails, Containers, Filters } from './port.ts';
import { statusOf, STATUSES } from './status.ts';

const ACCEPTED = [
  'ancestor', 'before', 'exited', 'expose', 'health', 'id', 'is-task', 'isolation', 'label', 'name', 'network',
  'publish', 'since', 'status', 'volume',
] as const; // prettier-ignore

const HEALTH = ['none', 'starting', 'healthy', 'unhealthy'] as const;
const PORT_MAX = 65_535;

/** True for a container that stays in the list. */
type Test = (container: Container) => boolean;
type LinkNames = ReturnType<typeof linkNames>;

export async function listContainers(
  parts: Parts,
  options: Parameters<Containers['list']>[0],
): Promise<readonly ContainerDetails[]> {
  const { filters } = options;
  checkFilterNames(filters, ACCEPTED);
  const names = linkNames(parts.supervisor);
  const test = compileTests(parts, filters, names);
  const range = rangeOf(parts, filters);
  const limit = options.limit !== null && options.limit > 0 ? options.limit : Infinity;
  const all = options.all || limit !== Infinity || valuesOf(filters, 'status').length > 0;
  const chosen: Container[] = [];
  for (const container of newestFirst(parts.supervisor.list())) {
    if (range.isPast(container)) continue;
    if (container.id === range.until) break;
    if (!all && !countsAsRunning(container)) continue;
    if (!test(container)) continue;
    if (chosen.length === limit) break;
    chosen.push(container);
  }
  if (!options.size) return chosen.map((container) => describeBriefly(parts, container, names));
  return Promise.all(chosen.map((container) => describe(parts, container, { size: true, linkNames: names })));
}

/** Records are kept oldest first, but a clock that was set back must not reorder the list. */
function newestFirst(containers: readonly Container[]): readonly Container[] {
  const reversed = containers.toReversed();
  const isOrdered = reversed.every((one, i) => i === 0 || compareAge(reversed[i - 1]!, one) <= 0);
  return isOrdered ? reversed : reversed.toSorted(compareAge);
}

/** Without the final Z, times compare as text although zeros at their end are cut. */
function compareAge(a: Container, b: Container): number {
  const [first, second] = [a.createdAt.slice(0, -1), b.createdAt.slice(0, -1)];
  return first < second ? 1 : first > second ? -1 : 0;
}

/** "before" skips what is newer than (and) that container, "since" ends the list at it. */
function rangeOf(parts: Parts, filters: Filters): { isPast: Test; until: string | undefined } {
  let before = last(valuesOf(filters, 'before').map((ref) => parts.resolver.resolve(ref).id));
  const until = last(valuesOf(filters, 'since').map((ref) => parts.resolver.resolve(ref).id));
  const isPast: Test = (container) => {
    if (before === undefined) return false;
    if (container.id === before) before = undefined;
    return true;
  };
  return { isPast, until };
}

function compileTests(parts: Parts, filters: Filters, names: LinkNames): Test {
  const labels = valuesOf(filters, 'label');
  const tests = [
    nameOrIdTest(parts, filters, names),
    (container: Container) => matchesLabels(labels, container.spec.process.labels),
    statusTest(filters),
    exitedTest(filters),
    healthTest(filters),
    taskTest(filters),
    isolationTest(filters),
    volumeTest(filters),
    ancestorTest(parts, filters),
    networkTest(parts, filters),
    portTest(parts, filters),
  ].filter((test) => test !== null);
  return (container) => tests.every((test) => test(container));
}

function nameOrIdTest(parts: Parts, filters: Filters, linked: LinkNames): Test | null {
  const names = valuesOf(filters, 'name');
  const ids = valuesOf(filters, 'id');
  if (names.length === 0 && ids.length === 0) return null;
  const byName = matcherOf(names);
  // An ID filter is a unique prefix; one that is not finds nothing. moby then also matches it as an expression.
  const prefixes = ids.filter((id) => parts.supervisor.list().filter((one) => one.id.startsWith(id)).length === 1);
  return (container) => {
    if (ids.length > 0 && !prefixes.some((prefix) => container.id.startsWith(prefix))) return false;
    const all = [`/${container.name}`, ...(linked.get(container.id) ?? [])];
    return all.some((name) => byName(name) || byName(name.slice(1)));
  };
}

function statusTest(filters: Filters): Test | null {
  const wanted = valuesOf(filters, 'status');
  for (const status of wanted) {
    if ((STATUSES as readonly string[]).includes(status)) continue;
    const why = `invalid value for state (${status}): must be one of ${STATUSES.join(', ')}`;
    throw new EngineError('PARAMETER_INVALID', `invalid filter 'status=${status}': ${why}`);
  }
  return wanted.length === 0 ? null : (container) => wanted.includes(statusOf(container));
}

function exitedTest(filters: Filters): Test | null {
  const codes = valuesOf(filters, 'exited').map((value) => {
    if (/^[+-]?\d+$/.test(value)) return Number(value);
    const why = `strconv.Atoi: parsing ${JSON.stringify(value)}: invalid syntax`;
    throw new EngineError('PARAMETER_INVALID', `invalid filter 'exited=${value}': ${why}`);
  });
  if (codes.length === 0) return null;
  return (container) => {
    const exit = countsAsRunning(container) ? null : lastExit(container);
    return exit !== null && everRan(exit) && codes.includes(exit.code);
  };
}

function healthTest(filters: Filters): Test | null {
  const wanted = valuesOf(filters, 'health');
  for (const health of wanted) {
    if ((HEALTH as readonly string[]).includes(health)) continue;
    const why = `invalid value for health (${health}): must be one of ${HEALTH.join(', ')}`;
    throw new EngineError('PARAMETER_INVALID', `invalid filter 'health=${health}': ${why}`);
  }
  return wanted.length === 0 ? null : (container) => wanted.includes(container.health?.status ?? 'none');
}

/** There are no Swarm tasks here. */
function taskTest(filters: Filters): Test | null {
  const wanted = booleanOf(filters, 'is-task');
  return wanted === null ? null : () => !wanted;
}

function isolationTest(filters: Filters): Test | null {
  const wanted = valuesOf(filters, 'isolation');
  // Windows only: moby ignores it elsewhere.
  return wanted.length === 0 ? null : () => true;
}

function volumeTest(filters: Filters): Test | null {
  const wanted = valuesOf(filters, 'volume');
  if (wanted.length === 0) return null;
  return ({ mounts }) => mounts.some((m) => wanted.includes(m.destination) || wanted.includes(m.name || m.source));
}

/** The image itself and whatever was made from it here. */
function ancestorTest(parts: Parts, filters: Filters): Test | null {
  const wanted = valuesOf(filters, 'ancestor');
  if (wanted.length === 0) return null;
  const images = parts.images.list();
  const ids = new Set<string>();
  const add = (id: string): void => {
    if (ids.has(id)) return;
    ids.add(id);
    for (const image of images) if (image.parentId === id) add(image.id);
  };
  for (const ref of wanted) {
    const image = parts.imageOf(ref);
    if (image !== null) add(image.id);
  }
  return (container) => ids.has(container.imageId);
}

function networkTest(parts: Parts, filters: Filters): Test | null {
  const wanted = valuesOf(filters, 'network');
  if (wanted.length === 0) return null;
  const known = new Map<string, Network>();
  for (const network of parts.networks.list()) known.set(network.name, network).set(network.id, network);
  return (container) =>
    Object.keys(container.spec.endpoints).some((asked) => {
      const network = known.get(asked);
      return wanted.some(
        (want) => want === asked || want === network?.name || (want !== '' && network?.id.startsWith(want)),
      );
    });
}

/** Published and exposed ports of live containers; either filter may match. */
function portTest(parts: Parts, filters: Filters): Test | null {
  const published = portsOf('publish', valuesOf(filters, 'publish'));
  const exposed = portsOf('expose', valuesOf(filters, 'expose'));
  if (published.length === 0 && exposed.length === 0) return null;
  return (container) =>
    Object.entries(parts.networks.ports(container.id)).some(([key, bindings]) => {
      const [port = '', protocol = 'tcp'] = key.split('/');
      const within = (range: PortRange, number: number): boolean =>
        range.protocol === protocol && number >= range.first && number <= range.last;
      if (exposed.some((range) => within(range, Number(port)))) return true;
      return bindings.some((binding) => published.some((range) => within(range, Number(binding.hostPort))));
    });
}

interface PortRange {
  readonly protocol: string;
  readonly first: number;
  readonly last: number;
}

/** "80", "80/udp", "8000-8010/tcp" */
function portsOf(name: 'publish' | 'expose', values: readonly string[]): PortRange[] {
  return values.map((value) => {
    if (value.includes(':')) {
      throw new EngineError('PARAMETER_INVALID', `filter for '${name}' should not contain ':': ${value}`);
    }
    const match = /^(\d+)(?:-(\d+))?(?:\/([a-z]+))?$/.exec(value);
    const [, first = '', end = first, protocol = 'tcp'] = match ?? [];
    const range = { protocol, first: Number(first), last: Number(end) };
    if (match === null || range.last > PORT_MAX || range.first > range.last) {
      throw new EngineError('PARAMETER_INVALID', `error while looking up for ${name} ${value}: invalid port`);
    }
    return range;
  });
}

function last<T>(values: readonly T[]): T | undefined {
  return values.at(-1);
}
