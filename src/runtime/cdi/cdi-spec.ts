/**
 * One file of the Container Device Interface: which devices a vendor has on this host, and what a container needs to use
 * them. Pure. Source: CDI SPEC.md (v1.0.0), tags.cncf.io/container-device-interface pkg/cdi validation.
 */

export interface CdiSpec {
  readonly cdiVersion: string;
  /** "vendor.com/class" */
  readonly kind: string;
  readonly containerEdits: CdiEdits;
  readonly devices: readonly CdiDevice[];
}

export interface CdiDevice {
  readonly name: string;
  readonly containerEdits: CdiEdits;
}

export interface CdiEdits {
  readonly env?: readonly string[];
  readonly deviceNodes?: readonly CdiDeviceNode[];
  readonly mounts?: readonly CdiMount[];
  readonly hooks?: readonly CdiHook[];
  readonly additionalGids?: readonly number[];
}

export interface CdiDeviceNode {
  readonly path: string;
  readonly hostPath?: string;
  /** "b", "c", "u", "p" */
  readonly type?: string;
  readonly major?: number;
  readonly minor?: number;
  readonly fileMode?: number;
  /** Of "rwm"; absent: all. */
  readonly permissions?: string;
  readonly uid?: number;
  readonly gid?: number;
}

export interface CdiMount {
  readonly hostPath: string;
  readonly containerPath: string;
  readonly type?: string;
  readonly options?: readonly string[];
}

export interface CdiHook {
  readonly hookName: string;
  readonly path: string;
  readonly args?: readonly string[];
  readonly env?: readonly string[];
  /** Seconds. */
  readonly timeout?: number;
}

const VERSIONS = ['0.1.0', '0.2.0', '0.3.0', '0.4.0', '0.5.0', '0.6.0', '0.7.0', '0.8.0', '1.0.0'];
export const HOOKS = ['prestart', 'createRuntime', 'createContainer', 'startContainer', 'poststart', 'poststop'];
const VENDOR = /^[A-Za-z]([\w.-]*[A-Za-z0-9])?$/;
const CLASS = /^[A-Za-z]([\w-]*[A-Za-z0-9])?$/;
const DEVICE = /^[A-Za-z0-9]([\w.:-]*[A-Za-z0-9])?$/;

type Check = (value: unknown, at: string) => void;

/** @throws {Error} naming what is wrong; unknown members are wrong too, since what they ask for would be missing */
export function parseCdiSpec(value: unknown): CdiSpec {
  const spec = members(value, 'spec', {
    cdiVersion: text,
    kind: text,
    annotations: () => {},
    containerEdits: edits,
    devices: listOf(device),
  });
  const version = spec['cdiVersion'];
  if (typeof version !== 'string') throw new Error('missing CDI version');
  if (!VERSIONS.includes(version)) throw new Error(`unsupported CDI version ${JSON.stringify(version)}`);
  const [vendor = '', kindClass, more] = ((spec['kind'] ?? '') as string).split('/');
  if (kindClass === undefined || more !== undefined || !VENDOR.test(vendor) || !CLASS.test(kindClass))
    throw new Error(`invalid kind ${JSON.stringify(spec['kind'] ?? '')}`);
  const devices = (spec['devices'] ?? []) as CdiDevice[];
  if (devices.length === 0) throw new Error('no devices');
  const seen = new Set<string>();
  for (const { name } of devices) {
    if (seen.has(name)) throw new Error(`invalid spec, multiple device ${JSON.stringify(name)}`);
    seen.add(name);
  }
  return { cdiVersion: version, kind: `${vendor}/${kindClass}`, containerEdits: {}, ...spec, devices };
}

function device(value: unknown, at: string): void {
  const given = members(value, at, { name: text, annotations: () => {}, containerEdits: edits });
  if (typeof given['name'] !== 'string' || !DEVICE.test(given['name']))
    throw new Error(`invalid device name ${JSON.stringify(given['name'] ?? '')}`);
  if (given['containerEdits'] === undefined || Object.keys(given['containerEdits'] as object).length === 0)
    throw new Error(`invalid device ${JSON.stringify(given['name'])}, empty device edits`);
}

function edits(value: unknown, at: string): void {
  const given = members(value, at, {
    env: listOf(variable),
    deviceNodes: listOf(deviceNode),
    mounts: listOf(mount),
    hooks: listOf(hook),
    additionalGids: listOf(id),
    intelRdt: () => {},
  });
  if (given['intelRdt'] !== undefined) throw new Error(`${at}.intelRdt is not supported here`);
}

const variable: Check = (value, at) => {
  text(value, at);
  if ((value as string).indexOf('=') < 1) throw new Error(`invalid environment variable ${JSON.stringify(value)}`);
};

const deviceNode: Check = (value, at) => {
  const given = members(value, at, {
    path: text,
    hostPath: text,
    type: oneOf(['b', 'c', 'u', 'p', '']),
    major: id,
    minor: id,
    fileMode: id,
    permissions: (permissions, where) => {
      text(permissions, where);
      if (!/^[rwm]*$/.test(permissions as string))
        throw new Error(`${where}: invalid permissions ${String(permissions)}`);
    },
    uid: id,
    gid: id,
  });
  if ((given['path'] ?? '') === '') throw new Error('invalid (empty) device path');
};

const mount: Check = (value, at) => {
  const given = members(value, at, { hostPath: text, containerPath: text, type: text, options: listOf(text) });
  for (const key of ['hostPath', 'containerPath'])
    if ((given[key] ?? '') === '') throw new Error(`invalid mount, empty ${key}`);
};

const hook: Check = (value, at) => {
  const given = members(value, at, {
    hookName: oneOf(HOOKS),
    path: text,
    args: listOf(text),
    env: listOf(variable),
    timeout: id,
  });
  if (given['hookName'] === undefined || (given['path'] ?? '') === '')
    throw new Error(`${at}: invalid hook, empty name or path`);
};

function members(
  value: unknown,
  at: string,
  known: Readonly<Record<string, Check>>,
): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Error(`${at} is not an object`);
  // null is "not given", as for Go.
  const given = Object.fromEntries(Object.entries(value).filter(([, member]) => member !== null));
  for (const [key, member] of Object.entries(given)) {
    const check = Object.hasOwn(known, key) ? known[key] : undefined;
    if (check === undefined) throw new Error(`${at}: unknown field ${JSON.stringify(key)}`);
    check(member, `${at}.${key}`);
  }
  return given;
}

const text: Check = (value, at) => {
  if (typeof value !== 'string' || value.includes('\0')) throw new Error(`${at} is not a text`);
};

const id: Check = (value, at) => {
  if (!Number.isSafeInteger(value) || (value as number) < 0) throw new Error(`${at} is not a number`);
};

function oneOf(words: readonly string[]): Check {
  return (value, at) => {
    if (!words.includes(value as string)) throw new Error(`${at}: invalid ${JSON.stringify(value)}`);
  };
}

function listOf(check: Check): Check {
  return (value, at) => {
    if (!Array.isArray(value)) throw new Error(`${at} is not a list`);
    for (const [index, member] of value.entries()) check(member, `${at}[${index}]`);
  };
}
