/** One thing that is wrong, and what would put it right. */
export interface Problem {
  readonly check:
    | 'record'
    | 'database'
    | 'process'
    | 'shim'
    | 'mount'
    | 'namespace'
    | 'interface'
    | 'firewall'
    | 'cgroup'
    | 'directory'
    | 'image';
  /** What it is about, so that the same problem is known again: a path, a name, an ID. */
  readonly subject: string;
  readonly text: string;
  /** null: only a person can decide, or nothing needs to be done. */
  readonly repair: Repair | null;
}

export interface Repair {
  /** "unmount it": what is done. */
  readonly does: string;
  /** Lower ones first: a process before its mounts, mounts before their directories. */
  readonly order: number;
  readonly run: () => Promise<void>;
}

/** In this order. */
export const REPAIR_ORDER = {
  process: 0,
  mount: 1,
  namespace: 2,
  network: 3,
  cgroup: 4,
  directory: 5,
  record: 6,
} as const;

/** The same problem in two looks. */
export function isSame(a: Problem, b: Problem): boolean {
  return a.check === b.check && a.subject === b.subject;
}
