/**
 * EXEC_ROOT/shim/ID: what one run of a container has on disk, and outlives the daemon. It is the shim's state directory
 * (shim.sock, shim.pid, init.pid, exit.json) and the OCI bundle (config.json) in one; what recovery needs to know more is
 * in the annotations of config.json, so that a start writes one file.
 */
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';

import { cgroupPathOf, isUnit } from './spec/cgroup-path.ts';
import type { OciResources } from './spec/resources.ts';
import { unitAnnotations } from './systemd-unit.ts';

const ANNOTATION_RUN = 'org.longshore.run';
const ANNOTATION_BOOT = 'org.longshore.boot';
const ANNOTATION_RUNTIME = 'org.longshore.runtime';
/** crun takes a filter ready made from here. */
const ANNOTATION_SECCOMP = 'run.oci.seccomp_bpf_data';

/** crun makes a cgroup of its own below systemd's scope: limits would be in two places, and an update in one. */
const ANNOTATION_SUBGROUP = 'run.oci.systemd.subgroup';

export interface RunRecord {
  readonly run: number;
  readonly bootId: string;
  /** Name in the table of runtimes. */
  readonly runtime: string;
  /** Below the root of each hierarchy. */
  readonly cgroupPath: string;
}

interface Config {
  readonly annotations?: Readonly<Record<string, string>>;
  readonly process?: { readonly args?: readonly string[]; readonly selinuxLabel?: string };
  readonly linux?: {
    readonly seccomp?: object;
    readonly cgroupsPath?: string;
    readonly resources?: OciResources;
    readonly namespaces?: readonly { readonly type: string }[];
    readonly mountLabel?: string;
  };
}

export function stateDirOf(execRoot: string, id: string): string {
  return `${execRoot}/shim/${id}`;
}

export async function makeStateDir(path: string): Promise<void> {
  await mkdir(path, { mode: 0o700 });
}

/** `filter`: the compiled seccomp filter in base64 for a runtime that takes one; the profile is left out then. */
export async function writeConfig(
  directory: string,
  oci: object,
  record: Omit<RunRecord, 'cgroupPath'>,
  filter: string | null,
): Promise<void> {
  const config = oci as Config;
  // Ours come last: a container's own annotations must not replace its seccomp filter.
  const { [ANNOTATION_SECCOMP]: _theirs, ...annotations } = config.annotations ?? {};
  const { seccomp, ...linux } = config.linux ?? {};
  const written = {
    ...config,
    annotations: {
      ...annotations,
      ...(filter === null ? {} : { [ANNOTATION_SECCOMP]: filter }),
      ...(isUnit(linux.cgroupsPath) ? { [ANNOTATION_SUBGROUP]: '', ...unitAnnotations(linux.resources) } : {}),
      [ANNOTATION_RUN]: `${record.run}`,
      [ANNOTATION_BOOT]: record.bootId,
      [ANNOTATION_RUNTIME]: record.runtime,
    },
    linux: { ...linux, ...(filter === null && seccomp !== undefined ? { seccomp } : {}) },
  };
  await writeFile(`${directory}/config.json`, JSON.stringify(written), { mode: 0o600 });
}

/** null: there is no (whole) config.json, so the run never got as far as a shim. */
export async function readRecord(directory: string): Promise<RunRecord | null> {
  let config: Config;
  try {
    config = JSON.parse(await readFile(`${directory}/config.json`, 'utf8')) as Config;
  } catch {
    return null;
  }
  const annotations = config?.annotations;
  const run = Number(annotations?.[ANNOTATION_RUN]);
  if (annotations === undefined || !Number.isSafeInteger(run)) return null;
  return {
    run,
    bootId: annotations[ANNOTATION_BOOT] ?? '',
    runtime: annotations[ANNOTATION_RUNTIME] ?? '',
    cgroupPath: cgroupPathOf(config.linux?.cgroupsPath ?? ''),
  };
}

/** What execs that do without the runtime must know of the container; null: there is no (whole) config.json. */
export async function readConfig(directory: string): Promise<{
  /** The compiled seccomp filter in base64. */
  readonly filter: string | null;
  /** For runtimes that compile it themselves. */
  readonly profile: object | null;
  readonly namespaces: readonly string[];
  readonly annotations: Readonly<Record<string, string>>;
  readonly selinux: boolean;
} | null> {
  let config: Config;
  try {
    config = JSON.parse(await readFile(`${directory}/config.json`, 'utf8')) as Config;
  } catch {
    return null;
  }
  const { process, linux, annotations = {} } = config;
  return {
    filter: annotations[ANNOTATION_SECCOMP] ?? null,
    profile: linux?.seccomp ?? null,
    namespaces: (linux?.namespaces ?? []).map(({ type }) => type),
    annotations,
    selinux: (process?.selinuxLabel ?? '') !== '' || (linux?.mountLabel ?? '') !== '',
  };
}

export async function removeStateDir(directory: string): Promise<void> {
  await rm(directory, { recursive: true, force: true });
}

/** The profile in an OCI config; null: unconfined. */
export function seccompOf(oci: object): object | null {
  return (oci as Config).linux?.seccomp ?? null;
}

export function cgroupPathOfConfig(oci: object): string {
  return cgroupPathOf((oci as Config).linux?.cgroupsPath ?? '');
}

export function argsOfConfig(oci: object): readonly string[] {
  return (oci as Config).process?.args ?? [];
}

/** Tells one boot of the machine from the next. */
export async function readBootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
}
