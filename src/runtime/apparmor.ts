/**
 * AppArmor's default profile in the kernel. One program is run when the profile is missing: at the daemon's first start after
 * a boot, and after somebody removed it (aa-remove-unknown does). Source: moby daemon/apparmor_default.go, profiles/apparmor (v28).
 */
import { execFile } from 'node:child_process';
import { access, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { EngineError, messageOf } from '../core/engine-error.ts';
import type { Logger } from '../core/log.ts';

import { APPARMOR_DEFAULT, defaultApparmorPolicy } from './spec/apparmor.ts';

/** A directory for each profile in the kernel: NAME.NUMBER. */
const LOADED = '/sys/kernel/security/apparmor/policy/profiles';
/** A line each: `NAME (MODE)`. */
const PROFILES = '/sys/kernel/security/apparmor/profiles';
const PARSERS = ['/sbin/apparmor_parser', '/usr/sbin/apparmor_parser', '/usr/bin/apparmor_parser'];
const PARSER_MS_MAX = 30_000;

/** As Docker decides: enabled in the kernel, with the program that loads profiles, and not inside a container. */
export async function hasApparmor(): Promise<boolean> {
  const enabled = await readFile('/sys/module/apparmor/parameters/enabled', 'utf8').catch(() => '');
  if (!enabled.startsWith('Y') || (process.env['container'] ?? '') !== '') return false;
  return (await isThere(LOADED)) && (await findParser()) !== null;
}

/** Loads the profile at once, beside what else a start of the daemon does; what keeps it from that keeps containers from starting. */
export function openApparmor(execRoot: string, logger: Logger): ApparmorProfile {
  const profile = new ApparmorProfile(join(execRoot, 'apparmor'), logger);
  profile.ensure().catch((error: unknown) => logger.error({ error }, messageOf(error)));
  return profile;
}

export class ApparmorProfile {
  readonly #directory: string;
  readonly #logger: Logger;
  /** Of the profile, while it is loaded. */
  #path: string | null = null;
  #loading: Promise<void> | null = null;

  /** @param directory where the policy's text is put for the parser */
  constructor(directory: string, logger: Logger) {
    this.#directory = directory;
    this.#logger = logger;
  }

  /**
   * For a process that is to be confined by it, or by one that the user has loaded: the runtime would only say that a file
   * of /proc is not there. @throws {EngineError} RUNTIME_START_FAILED
   */
  async ensureFor(process: object | undefined): Promise<void> {
    const name = (process as { readonly apparmorProfile?: string } | undefined)?.apparmorProfile ?? 'unconfined';
    if (name === APPARMOR_DEFAULT) return await this.ensure();
    // Stacks and names of other namespaces are the kernel's to judge.
    if (name === 'unconfined' || /&|:/.test(name)) return;
    const loaded = await readFile(PROFILES, 'utf8').catch(() => null);
    if (loaded === null || loaded.split('\n').some((line) => line.startsWith(`${name} (`))) return;
    const why = `unable to apply apparmor profile: ${JSON.stringify(name)} is not loaded on this host`;
    throw new EngineError('RUNTIME_START_FAILED', why);
  }

  /** Once "docker-default" is loaded: one look at a path where it was before. @throws {EngineError} RUNTIME_START_FAILED */
  async ensure(): Promise<void> {
    if (this.#path !== null && (await isThere(this.#path))) return;
    this.#loading ??= this.#load().finally(() => (this.#loading = null));
    await this.#loading;
  }

  async #load(): Promise<void> {
    this.#path = await findLoaded();
    if (this.#path !== null) return;
    try {
      await this.#parse();
      this.#path = await findLoaded();
      if (this.#path === null) throw new Error(`it is not in ${LOADED} after it was loaded`);
    } catch (error) {
      const why = `AppArmor enabled on system but the ${APPARMOR_DEFAULT} profile could not be loaded: ${messageOf(error)}`;
      throw new EngineError('RUNTIME_START_FAILED', why, { cause: error });
    }
    this.#logger.info({ profile: APPARMOR_DEFAULT }, 'the AppArmor profile of containers is loaded');
  }

  async #parse(): Promise<void> {
    const parser = await findParser();
    if (parser === null) throw new Error('there is no apparmor_parser any more');
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    const file = join(this.#directory, APPARMOR_DEFAULT);
    await writeFile(file, defaultApparmorPolicy(await ownProfile()), { mode: 0o600 });
    // From the text, always: a cache of the host may be of another text of this name.
    await promisify(execFile)(parser, ['-Kr', file], { timeout: PARSER_MS_MAX });
  }
}

async function findLoaded(): Promise<string | null> {
  const names = await readdir(LOADED);
  const name = names.find(
    (one) => one.startsWith(`${APPARMOR_DEFAULT}.`) && /^\d+$/.test(one.slice(APPARMOR_DEFAULT.length + 1)),
  );
  return name === undefined ? null : join(LOADED, name);
}

/** "unconfined", or the name without its mode: `snap.longshore (enforce)`. */
async function ownProfile(): Promise<string> {
  const text = await readFile('/proc/self/attr/current', 'utf8');
  return text.trim().replace(/ \([a-z]+\)$/, '') || 'unconfined';
}

async function findParser(): Promise<string | null> {
  for (const path of PARSERS) if (await isThere(path)) return path;
  return null;
}

async function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
