/** Device nodes and what the device cgroup allows. Source: moby oci/defaults.go, oci/devices_linux.go (v28). */
import { EngineError } from '../../core/engine-error.ts';
import type { DeviceNode, OciInput } from './input.ts';

export interface OciDevice {
  readonly path: string;
  readonly type: string;
  readonly major: number;
  readonly minor: number;
  readonly fileMode: number;
  readonly uid: number;
  readonly gid: number;
}

export interface OciDeviceRule {
  readonly allow: boolean;
  readonly type?: string;
  readonly major?: number;
  readonly minor?: number;
  readonly access: string;
}

const character = (allow: boolean, major: number, minor: number): OciDeviceRule => ({
  allow,
  type: 'c',
  major,
  minor,
  access: 'rwm',
});

/** Runtimes add what every container needs (null, full, ptmx, pts …) by themselves. */
const DEFAULT_RULES: readonly OciDeviceRule[] = [
  { allow: false, access: 'rwm' },
  character(true, 1, 5), // zero
  character(true, 1, 3), // null
  character(true, 1, 9), // urandom
  character(true, 1, 8), // random
  character(true, 5, 0), // tty
  character(true, 5, 1), // console
  character(false, 10, 229), // fuse
];

const RULE = /^([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})$/;

export function decideDevices(input: OciInput): { readonly devices: OciDevice[]; readonly rules: OciDeviceRule[] } {
  const { privileged, resources } = input.spec.host;
  refuseDeviceRequests(input);
  if (privileged) {
    const mapped = input.devices.filter((device) => device.path !== device.pathOnHost);
    return { devices: [...input.hostDevices, ...mapped].map(ociDevice), rules: [{ allow: true, access: 'rwm' }] };
  }
  const mapped = input.devices.map((device): OciDeviceRule => ({
    allow: true,
    type: device.type,
    major: device.major,
    minor: device.minor,
    access: device.permissions || 'rwm',
  }));
  const asked = (resources.deviceCgroupRules ?? []).map(parseDeviceRule);
  return { devices: input.devices.map(ociDevice), rules: [...DEFAULT_RULES, ...mapped, ...asked] };
}

/** @throws {EngineError} CONTAINER_SPEC_INVALID "invalid device cgroup rule format: 'x'" */
export function parseDeviceRule(text: string): OciDeviceRule {
  const match = RULE.exec(text);
  if (!match) throw new EngineError('CONTAINER_SPEC_INVALID', `invalid device cgroup rule format: '${text}'`);
  const [, type = '', major = '', minor = '', access = ''] = match;
  return {
    allow: true,
    type,
    ...(major === '*' ? {} : { major: Number(major) }),
    ...(minor === '*' ? {} : { minor: Number(minor) }),
    access,
  };
}

/** CDI is the only driver there is, where it has directories; the words for others are Docker's where it has none either. */
function refuseDeviceRequests(input: OciInput): void {
  for (const request of input.spec.host.resources.deviceRequests ?? []) {
    if (request.driver === 'cdi' && input.daemon.cdiSpecDirs.length > 0) continue;
    const capabilities = (request.capabilities ?? []).map((group) => `[${group.join(' ')}]`).join(' ');
    throw new EngineError(
      'RUNTIME_START_FAILED',
      `could not select device driver ${JSON.stringify(request.driver)} with capabilities: [${capabilities}]`,
    );
  }
}

function ociDevice(node: DeviceNode): OciDevice {
  const { path, type, major, minor, mode, uid, gid } = node;
  return { path, type, major, minor, fileMode: mode & 0o777, uid, gid };
}
