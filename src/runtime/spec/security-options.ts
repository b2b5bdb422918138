/** `--security-opt` in the forms that dockerd takes. Source: moby daemon/daemon_unix.go parseSecurityOpt (v28). */
import { EngineError } from '../../core/engine-error.ts';

import { APPARMOR_DEFAULT } from './apparmor.ts';

export interface SecurityOptions {
  readonly noNewPrivileges: boolean;
  /** "": the daemon's default. "unconfined", "builtin", or a profile's JSON. */
  readonly seccomp: string;
  /** "": the default. */
  readonly apparmor: string;
  /** null: as the daemon decides (writable for privileged ones). */
  readonly writableCgroups: boolean | null;
  /** SELinux: "disable", "type:x" … . */
  readonly labels: readonly string[];
}

/**
 * "=" separates; ":" is taken too, as Docker still does.
 * @throws {EngineError} CONTAINER_SPEC_INVALID `invalid --security-opt 2: "x=y"`
 */
export function parseSecurityOptions(
  options: readonly string[] | null,
  defaults: { readonly noNewPrivileges: boolean },
): SecurityOptions {
  let noNewPrivileges = defaults.noNewPrivileges;
  let seccomp = '';
  let apparmor = '';
  let writableCgroups: boolean | null = null;
  const labels: string[] = [];
  for (const option of options ?? []) {
    const { key, value } = splitOption(option);
    switch (key) {
      case 'no-new-privileges':
        noNewPrivileges = value === null || parseBool(value, option);
        break;
      case 'writable-cgroups':
        writableCgroups = value === null || parseBool(value, option);
        break;
      case 'disable':
        labels.push('disable');
        break;
      case 'label':
        labels.push(value ?? '');
        break;
      case 'apparmor':
        apparmor = value ?? '';
        break;
      case 'seccomp':
        seccomp = value ?? '';
        break;
      default:
        throw new EngineError('CONTAINER_SPEC_INVALID', `invalid --security-opt 2: ${JSON.stringify(option)}`);
    }
  }
  return { noNewPrivileges, seccomp, apparmor, writableCgroups, labels };
}

/**
 * What only AppArmor or SELinux could do is refused where the host has the one not, or the engine does not label; "not at all"
 * is what they have anyway.
 * @throws {EngineError} CONTAINER_SPEC_INVALID
 */
export function checkSecurityModules(
  { apparmor, labels }: Pick<SecurityOptions, 'apparmor' | 'labels'>,
  host: { readonly apparmor: boolean },
): void {
  if (!host.apparmor && !['', 'unconfined', APPARMOR_DEFAULT].includes(apparmor)) {
    const why = `invalid --security-opt: "apparmor=${apparmor}": AppArmor is not enabled on this host`;
    throw new EngineError('CONTAINER_SPEC_INVALID', why);
  }
  for (const label of labels.filter((one) => !['', 'disable'].includes(one))) {
    const why = `invalid --security-opt: "label=${label}": SELinux support is not enabled`;
    throw new EngineError('CONTAINER_SPEC_INVALID', why);
  }
}

const BARE = new Set(['no-new-privileges', 'writable-cgroups', 'disable']);

function splitOption(option: string): { key: string; value: string | null } {
  if (BARE.has(option)) return { key: option, value: null };
  const separator = option.includes('=') ? '=' : ':';
  const at = option.indexOf(separator);
  if (at < 0) throw new EngineError('CONTAINER_SPEC_INVALID', `invalid --security-opt 1: ${JSON.stringify(option)}`);
  const key = option.slice(0, at);
  if (key === 'disable') {
    throw new EngineError('CONTAINER_SPEC_INVALID', `invalid --security-opt 2: ${JSON.stringify(option)}`);
  }
  return { key, value: option.slice(at + 1) };
}

/** Go's strconv.ParseBool. */
function parseBool(value: string, option: string): boolean {
  if (['1', 't', 'T', 'true', 'TRUE', 'True'].includes(value)) return true;
  if (['0', 'f', 'F', 'false', 'FALSE', 'False'].includes(value)) return false;
  throw new EngineError('CONTAINER_SPEC_INVALID', `invalid --security-opt 2: ${JSON.stringify(option)}`);
}
