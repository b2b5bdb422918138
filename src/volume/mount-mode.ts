/** The third part of "-v source:target:mode". Pure. Source: moby volume/mounts/linux_parser.go (v28). */
import { EngineError } from '../core/engine-error.ts';

const PROPAGATIONS = new Set(['private', 'rprivate', 'slave', 'rslave', 'shared', 'rshared']);
export const PROPAGATION_DEFAULT = 'rprivate';

/** Each kind may be given once. */
const KIND_BY_WORD: ReadonlyMap<string, string> = new Map([
  ...['rw', 'ro'].map((word) => [word, 'access'] as const),
  ...['z', 'Z'].map((word) => [word, 'label'] as const),
  ...[...PROPAGATIONS].map((word) => [word, 'propagation'] as const),
  ['nocopy', 'copy'] as const,
  ...['consistent', 'cached', 'delegated'].map((word) => [word, 'consistency'] as const),
]);

export interface MountMode {
  readonly readWrite: boolean;
  /** "" when none was asked for. */
  readonly propagation: string;
  readonly noCopy: boolean;
}

/** null for a mode that is none. "" is fine. */
export function parseMode(mode: string): MountMode | null {
  const words = mode === '' ? [] : mode.split(',');
  const kinds = words.map((word) => KIND_BY_WORD.get(word));
  if (kinds.includes(undefined) || new Set(kinds).size < kinds.length) return null;
  return {
    readWrite: !words.includes('ro'),
    propagation: words.find((word) => PROPAGATIONS.has(word)) ?? '',
    noCopy: words.includes('nocopy'),
  };
}

export function isPropagation(text: string): boolean {
  return PROPAGATIONS.has(text);
}

/** "container[:mode]". @throws MOUNT_INVALID "invalid mode: x" */
export function parseVolumesFrom(spec: string): { readonly container: string; readonly readWrite: boolean } {
  if (spec === '') throw new EngineError('MOUNT_INVALID', 'volumes-from specification cannot be an empty string');
  const colon = spec.indexOf(':');
  const container = colon < 0 ? spec : spec.slice(0, colon);
  const text = colon < 0 ? '' : spec.slice(colon + 1);
  const mode = parseMode(text);
  // What is inherited keeps its propagation, and is never copied into.
  if (mode === null || mode.propagation !== '' || mode.noCopy)
    throw new EngineError('MOUNT_INVALID', `invalid mode: ${text}`);
  return { container, readWrite: mode.readWrite };
}
