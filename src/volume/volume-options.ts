/**
 * Options of the local driver, and the mount they mean. Pure.
 * Source: moby volume/local/local_unix.go, github.com/moby/sys/mount flags_linux.go (v28); mount(8).
 */
import { EngineError } from '../core/engine-error.ts';

export interface VolumeMount {
  readonly type: string;
  readonly device: string;
  /** MS_* of the mount itself. */
  readonly flags: number;
  /** MS_SHARED and the like, which take a mount(2) of their own; 0: none. */
  readonly propagation: number;
  readonly data: string;
}

const KNOWN = new Set(['type', 'o', 'device', 'size']);
const REQUIRES: readonly (readonly [option: string, needs: string])[] = [
  ['device', 'type'],
  ['type', 'device'],
  ['o', 'device'],
  ['o', 'type'],
];
/** "10", "1.5g", "64 MiB". Source: github.com/docker/go-units RAMInBytes. */
const SIZE = /^(\d+(?:\.\d+)*) ?(?:[kmgtp]i?b?|b)?$/i;
const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/;
export const MS_BIND = 0x1000;
const MS_REC = 0x4000;

const PROPAGATIONS: ReadonlyMap<string, number> = new Map(
  Object.entries({ unbindable: 1 << 17, private: 1 << 18, slave: 1 << 19, shared: 1 << 20 }).flatMap(([word, flag]) => [
    [word, flag] as const,
    [`r${word}`, flag | MS_REC] as const,
  ]),
);

/** Options that are flags of mount(2); `clear` ones take theirs away. */
const FLAGS: ReadonlyMap<string, { readonly flag: number; readonly clear: boolean }> = new Map(
  (
    [
      ['defaults', 0, false],
      ['async', 0x10, true],
      ['atime', 0x400, true],
      ['bind', MS_BIND, false],
      ['dev', 4, true],
      ['diratime', 0x800, true],
      ['dirsync', 0x80, false],
      ['exec', 8, true],
      ['mand', 0x40, false],
      ['noatime', 0x400, false],
      ['nodev', 4, false],
      ['nodiratime', 0x800, false],
      ['noexec', 8, false],
      ['nomand', 0x40, true],
      ['norelatime', 0x200000, true],
      ['nostrictatime', 0x1000000, true],
      ['nosuid', 2, false],
      ['rbind', MS_BIND | MS_REC, false],
      ['relatime', 0x200000, false],
      ['remount', 0x20, false],
      ['ro', 1, false],
      ['rw', 1, true],
      ['strictatime', 0x1000000, false],
      ['suid', 2, true],
      ['sync', 0x10, false],
    ] as const
  ).map(([word, flag, clear]) => [word, { flag, clear }]),
);

/** @throws VOLUME_NAME_INVALID with moby's words */
export function checkVolumeName(name: string): void {
  if (name.length === 1) {
    throw new EngineError(
      'VOLUME_NAME_INVALID',
      `create ${name}: volume name is too short, names should be at least two alphanumeric characters`,
    );
  }
  if (!NAME.test(name) || name.length > 255) {
    throw new EngineError(
      'VOLUME_NAME_INVALID',
      `create ${name}: "${name}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`,
    );
  }
}

/** @throws VOLUME_SPEC_INVALID `create x: invalid option: "y"` */
export function checkVolumeOptions(name: string, options: Readonly<Record<string, string>>): void {
  const refuse = (detail: string): never => {
    throw new EngineError('VOLUME_SPEC_INVALID', `create ${name}: ${detail}`);
  };
  for (const option of Object.keys(options)) if (!KNOWN.has(option)) refuse(`invalid option: "${option}"`);
  const { size } = options;
  if (size !== undefined) {
    const match = SIZE.exec(size);
    if (match === null) refuse(`invalid size: '${size}'`);
    if (Number(match?.[1]) > 0) refuse('quota size requested but no quota support');
  }
  for (const [option, needs] of REQUIRES) {
    if (options[option] !== undefined && options[needs] === undefined) refuse(`missing required option: "${needs}"`);
  }
  if (options['type'] === 'cifs' && /^\w*:?\/\/[^/]*:\d+(\/|$)/.test(options['device'] ?? '')) {
    refuse("port not allowed in CIFS device URL, include 'port' in 'o='");
  }
}

/** null: a plain directory. */
export function volumeMount(options: Readonly<Record<string, string>>): VolumeMount | null {
  const { type = '', device = '', o = '' } = options;
  if (type === '' && device === '') return null;
  let flags = 0;
  let propagation = 0;
  const data: string[] = [];
  for (const word of o.split(',').filter((part) => part !== '')) {
    const known = FLAGS.get(word);
    const kind = PROPAGATIONS.get(word);
    if (kind !== undefined) propagation |= kind;
    else if (known === undefined) data.push(word);
    else if (known.clear) flags &= ~known.flag;
    else flags |= known.flag;
  }
  return { type, device, flags, propagation, data: data.join(',') };
}

/** For error texts: a password is never shown. */
export function withoutPassword(text: string): string {
  return text.replaceAll(/password=[^,\s:]*/g, 'password=********');
}
