/**
 * crun 1.8 opens the target of a recursively read-only bind as a directory, and refuses a file ("open mount target:
 * Not a directory"). A file has nothing below it: plain "ro" is the same there.
 */
import { stat } from 'node:fs/promises';

interface Mount {
  readonly type?: string;
  readonly source?: string;
  readonly options?: readonly string[];
}

/** The configuration as crun takes it; the same object when there is nothing to change. */
export async function adaptMountsForCrun(oci: object): Promise<object> {
  const { mounts = [] } = oci as { readonly mounts?: readonly Mount[] };
  if (!mounts.some((mount) => mount.options?.includes('rro'))) return oci;
  return { ...oci, mounts: await Promise.all(mounts.map(adapt)) };
}

async function adapt(mount: Mount): Promise<Mount> {
  const { source, options = [] } = mount;
  if (!options.includes('rro') || source === undefined) return mount;
  // What cannot be looked at is left to the runtime, whose error names it.
  const isDirectory = await stat(source).then(
    (stats) => stats.isDirectory(),
    () => true,
  );
  return isDirectory ? mount : { ...mount, options: options.filter((option) => option !== 'rro') };
}
