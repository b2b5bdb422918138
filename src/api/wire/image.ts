/** Images in Docker's spelling. Source: moby api/types/image, api/server/router/image, daemon/images (v28). */
import { parseTime, ZERO_TIME } from '../../core/clock.ts';
import { EngineError } from '../../core/engine-error.ts';
import type { Filters } from '../../container/port.ts';
import type { HistoryEntry, Image, ImageConfig, Images, RemovedImage } from '../../image/port.ts';
import { formatHealthcheck } from './container-config.ts';
import { checkFilterNames, flagFilter, matchesLabels, matchesPruneLabels } from './filters.ts';
import { formatSet } from './port-map.ts';
import { withoutTag } from './reference.ts';
import { parseFilterTime } from './time.ts';

/** The last version whose config had all fields of a container's. */
const CONTAINER_CONFIG_MINOR_MAX = 49;

/** `layerDirectories`: the top first. */
export function formatImageInspect(image: Image, layerDirectories: readonly string[], minor: number): object {
  return {
    Id: image.id,
    RepoTags: image.tags,
    RepoDigests: image.digests,
    Parent: image.parentId,
    Comment: image.comment,
    // Before 1.44 "not known" was Go's zero time.
    Created: image.createdAt || (minor < 44 ? ZERO_TIME : undefined),
    Container: minor < 45 ? '' : undefined,
    // moby has it up to 1.44. docker-compose 1.29, which asks for the newest version, fails without it, so it stays.
    ContainerConfig: formatImageConfig(
      (minor < 45 ? image.containerConfig : undefined) ?? image.config,
      CONTAINER_CONFIG_MINOR_MAX,
    ),
    DockerVersion: image.dockerVersion,
    Author: image.author,
    Config: formatImageConfig(image.config, minor),
    Architecture: image.architecture,
    Variant: image.variant || undefined,
    Os: image.os,
    OsVersion: image.osVersion || undefined,
    Size: image.sizeBytes,
    VirtualSize: minor < 44 ? image.sizeBytes : undefined,
    GraphDriver: { Data: formatLayers(layerDirectories), Name: 'overlay2' },
    RootFS: { Type: 'layers', Layers: image.layers.length === 0 ? undefined : image.layers },
    Metadata: { LastTagTime: image.taggedAt || ZERO_TIME },
  };
}

/** As overlay2's: where the top layer is, and what lies below it. */
function formatLayers([top, ...below]: readonly string[]): object | null {
  if (top === undefined) return null;
  return {
    LowerDir: below.length === 0 ? undefined : below.map((directory) => `${directory}/diff`).join(':'),
    MergedDir: `${top}/merged`,
    UpperDir: `${top}/diff`,
    WorkDir: `${top}/work`,
  };
}

/** Up to 1.49 the fields of a container's config, which mean nothing for an image, were shown as well. */
function formatImageConfig(config: ImageConfig, minor: number): object {
  const containerOnly =
    minor < 50
      ? {
          AttachStdin: false,
          AttachStdout: false,
          AttachStderr: false,
          Domainname: '',
          Hostname: '',
          Image: '',
          OpenStdin: false,
          StdinOnce: false,
          Tty: false,
        }
      : {};
  return {
    ...containerOnly,
    User: config.user,
    ExposedPorts:
      config.exposedPorts === null || config.exposedPorts.length === 0 ? undefined : formatSet(config.exposedPorts),
    Env: config.env,
    Entrypoint: config.entrypoint,
    Cmd: config.cmd,
    Volumes: config.volumes === null ? null : formatSet(config.volumes),
    WorkingDir: config.workingDir,
    Labels: config.labels,
    StopSignal: config.stopSignal || undefined,
    ArgsEscaped: config.argsEscaped || undefined,
    Healthcheck: formatHealthcheck(config.healthcheck),
    OnBuild: config.onBuild,
    Shell: config.shell === null || config.shell.length === 0 ? undefined : config.shell,
  };
}

export interface ImageEntry {
  readonly image: Image;
  /** Those that the filters left. */
  readonly tags: readonly string[];
  readonly digests: readonly string[];
}

/** -1 for "not counted". */
export function formatImageSummary(
  entry: ImageEntry,
  counts: { readonly containers: number; readonly sharedBytes: number },
  minor: number,
): object {
  const { image, tags, digests } = entry;
  const none = minor < 43 && tags.length === 0 && digests.length === 0;
  return {
    Containers: counts.containers,
    Created: image.createdAt === '' ? 0 : Math.floor(Date.parse(image.createdAt) / 1000),
    Id: image.id,
    Labels: image.config.labels,
    ParentId: image.parentId,
    RepoDigests: none ? ['<none>@<none>'] : digests,
    RepoTags: none ? ['<none>:<none>'] : tags,
    SharedSize: counts.sharedBytes,
    Size: image.sizeBytes,
    VirtualSize: minor < 44 ? image.sizeBytes : undefined,
  };
}

/** The images of a list, newest first, after moby's filters. @throws PARAMETER_INVALID */
export function filterImages(
  images: Images,
  filters: Filters,
  options: { readonly all: boolean; readonly nowNs: bigint },
): ImageEntry[] {
  checkFilterNames(filters, ['dangling', 'label', 'before', 'since', 'reference', 'until']);
  const dangling = flagFilter(filters, 'dangling');
  const beforeNs = (filters.get('before') ?? []).map((name) => createdNs(images.resolve(name)));
  const sinceNs = (filters.get('since') ?? []).map((name) => createdNs(images.resolve(name)));
  const untilNs = (filters.get('until') ?? []).map((text) => parseFilterTime(text, options.nowNs));
  const patterns = (filters.get('reference') ?? []).map(pathPattern);
  const all = images.list();
  const parents = new Set(all.map((image) => image.parentId));
  const entries: ImageEntry[] = [];
  for (const image of all) {
    const created = createdNs(image);
    if (beforeNs.some((time) => created >= time) || sinceNs.some((time) => created <= time)) continue;
    if (untilNs.some((time) => created >= time)) continue;
    if (!matchesLabels(filters, 'label', image.config.labels)) continue;
    const wanted = (reference: string): boolean =>
      !filters.has('reference') ||
      patterns.some((pattern) => pattern.test(reference) || pattern.test(withoutTag(reference)));
    const tags = image.tags.filter(wanted);
    const digests = image.digests.filter(wanted);
    if (tags.length === 0 && digests.length === 0) {
      // Untagged: an intermediate image is shown to those who ask for all, and never when names are looked for.
      if ((!options.all && parents.has(image.id)) || dangling === false || filters.has('reference')) continue;
    } else if (dangling === true && tags.length > 0) continue;
    entries.push({ image, tags, digests });
  }
  return entries;
}

/** What a prune takes: dangling images only unless `dangling=false`. */
export function parseImagePrune(filters: Filters, nowNs: bigint): Parameters<Images['prune']>[0] {
  checkFilterNames(filters, ['dangling', 'label', 'label!', 'until']);
  const untilNs = untilOf(filters, nowNs);
  return {
    danglingOnly: flagFilter(filters, 'dangling') ?? true,
    matches: (image) =>
      (untilNs === null || createdNs(image) <= untilNs) && matchesPruneLabels(filters, image.config.labels),
  };
}

/** null when there is no such filter. @throws PARAMETER_INVALID "more than one until filter specified" */
export function untilOf(filters: Filters, nowNs: bigint): bigint | null {
  const values = filters.get('until') ?? [];
  if (values.length > 1) throw new EngineError('PARAMETER_INVALID', 'more than one until filter specified');
  return values[0] === undefined ? null : parseFilterTime(values[0], nowNs);
}

export function formatHistory(entry: HistoryEntry): object {
  return {
    Id: entry.id,
    Created: entry.created,
    CreatedBy: entry.createdBy,
    Tags: entry.tags,
    Size: entry.sizeBytes,
    Comment: entry.comment,
  };
}

export function formatRemoved(removed: RemovedImage): object {
  return 'untagged' in removed ? { Untagged: removed.untagged } : { Deleted: removed.deleted };
}

function createdNs(image: Image): bigint {
  return parseTime(image.createdAt);
}

/** Go's path.Match: "*" and "?" stay within a segment. */
function pathPattern(glob: string): RegExp {
  let source = '';
  for (let at = 0; at < glob.length; at++) {
    const character = glob[at]!;
    const close = character === '[' ? glob.indexOf(']', at + 1) : -1;
    if (character === '*') source += '[^/]*';
    else if (character === '?') source += '[^/]';
    else if (close > at + 1) {
      source += `[${glob.slice(at + 1, close).replace(/\\/g, '\\\\')}]`;
      at = close;
    } else if (character === '[') throw new EngineError('PARAMETER_INVALID', 'syntax error in pattern');
    else source += character.replace(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`);
  }
  try {
    return new RegExp(`^${source.replace(/(?:\[\^\/\]\*)+/g, '[^/]*')}$`);
  } catch {
    throw new EngineError('PARAMETER_INVALID', 'syntax error in pattern');
  }
}
