/**
 * The devices that the files of the CDI directories (`--cdi-spec-dir`) describe. They are read when somebody asks: vendors
 * write them at any time. Of two files that describe the same device, the one in the later directory counts; in one
 * directory, none does. Source: tags.cncf.io/container-device-interface pkg/cdi cache.go; moby daemon/cdi.go (v28).
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

import type { DeviceRequestSpec } from '../../core/container-spec.ts';
import { EngineError, messageOf } from '../../core/engine-error.ts';
import { readNode } from '../host-devices.ts';
import { parseCdiSpec, type CdiDevice, type CdiDeviceNode, type CdiEdits, type CdiSpec } from './cdi-spec.ts';

export const CDI_DRIVER = 'cdi';
const BYTES_MAX = 4 * 1024 * 1024;

export interface CdiRegistry {
  /** By "vendor.com/class=name". */
  readonly devices: ReadonlyMap<string, { readonly spec: CdiSpec; readonly device: CdiDevice }>;
  /** Files that are left out, and why; by path. */
  readonly errors: ReadonlyMap<string, string>;
}

interface Found {
  readonly spec: CdiSpec;
  readonly device: CdiDevice;
  readonly path: string;
  /** Of its directory. */
  readonly priority: number;
}

export async function readCdiRegistry(directories: readonly string[]): Promise<CdiRegistry> {
  const devices = new Map<string, Found>();
  const errors = new Map<string, string>();
  const conflicts = new Set<string>();
  for (const [priority, directory] of directories.entries()) {
    for (const path of await specFiles(directory, errors)) {
      const spec = await readSpec(path).catch((error: unknown) => {
        errors.set(path, messageOf(error));
        return null;
      });
      for (const device of spec?.devices ?? []) {
        const name = `${spec!.kind}=${device.name}`;
        const other = devices.get(name);
        if (other?.priority === priority) {
          conflicts.add(name);
          errors.set(
            path,
            `conflicting device ${JSON.stringify(name)} (specs ${JSON.stringify(path)}, ${JSON.stringify(other.path)})`,
          );
        } else {
          conflicts.delete(name);
        }
        devices.set(name, { spec: spec!, device, path, priority });
      }
    }
  }
  for (const name of conflicts) devices.delete(name);
  return { devices, errors };
}

/**
 * What the devices of the requests of the CDI driver do to a container, in order; what all devices of a file share comes
 * once. @throws {EngineError} RUNTIME_START_FAILED in Docker's words
 */
export async function resolveCdiRequests(
  directories: readonly string[],
  requests: readonly DeviceRequestSpec[] | null,
): Promise<CdiEdits[]> {
  const asked = (requests ?? []).filter(({ driver }) => driver === CDI_DRIVER);
  if (asked.length === 0 || directories.length === 0) return []; // without directories there is no such driver
  for (const { count, options } of asked) {
    if (count !== 0) throw refused('unexpected count in CDI device request');
    if (Object.keys(options ?? {}).length > 0) throw refused('unexpected options in CDI device request');
  }
  const names = asked.flatMap(({ deviceIds }) => deviceIds ?? []);
  if (names.length === 0) return [];
  const { devices } = await readCdiRegistry(directories);
  const missing = names.filter((name) => !devices.has(name));
  if (missing.length > 0) throw refused(`CDI device injection failed: unresolvable CDI devices ${missing.join(', ')}`);
  const edits: CdiEdits[] = [];
  const specs = new Set<CdiSpec>();
  for (const name of names) {
    const { spec, device } = devices.get(name)!;
    if (!specs.has(spec)) edits.push(await withNumbers(spec.containerEdits));
    specs.add(spec);
    edits.push(await withNumbers(device.containerEdits));
  }
  return edits;
}

/** A node that a file names without its numbers is looked up on the host. */
async function withNumbers(edits: CdiEdits): Promise<CdiEdits> {
  if (edits.deviceNodes === undefined) return edits;
  const deviceNodes = await Promise.all(
    edits.deviceNodes.map(async (node): Promise<CdiDeviceNode> => {
      const { type = '', major = 0 } = node;
      if (type === 'p' || (type !== '' && major !== 0)) return node;
      const hostPath = node.hostPath ?? node.path;
      const found = await readNode(hostPath).catch((error: unknown) => {
        throw refused(
          `CDI device injection failed: failed to stat CDI host device ${JSON.stringify(hostPath)}: ${messageOf(error)}`,
        );
      });
      if (found === null || (type !== '' && type !== found.type)) {
        const why = found === null ? 'not a device node' : `host type mismatch (${type}, ${found.type})`;
        throw refused(
          `CDI device injection failed: CDI device (${JSON.stringify(node.path)}, ${JSON.stringify(hostPath)}): ${why}`,
        );
      }
      return { ...node, type: found.type, major: found.major, minor: found.minor };
    }),
  );
  return { ...edits, deviceNodes };
}

async function specFiles(directory: string, errors: Map<string, string>): Promise<string[]> {
  try {
    const names = await readdir(directory);
    return names
      .filter((name) => /\.(json|yaml)$/.test(name))
      .toSorted()
      .map((name) => join(directory, name));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') errors.set(directory, messageOf(error));
    return [];
  }
}

async function readSpec(path: string): Promise<CdiSpec> {
  const text = await readFile(path, 'utf8');
  if (text.length > BYTES_MAX) throw new Error(`larger than ${BYTES_MAX} bytes`);
  if (path.endsWith('.json')) return parseCdiSpec(JSON.parse(text));
  const { parse } = await import('yaml');
  return parseCdiSpec(parse(text, { maxAliasCount: 100 }));
}

function refused(message: string): EngineError {
  return new EngineError('RUNTIME_START_FAILED', message);
}
