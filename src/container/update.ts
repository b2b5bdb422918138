/** `docker update`. Source: moby daemon/update.go, container/container_unix.go UpdateContainer (v28). */
import { NO_RESOURCES, type ResourceSpec } from '../core/container-spec.ts';
import { EngineError } from '../core/engine-error.ts';
import { markedForRemovalOn } from '../lifecycle/words.ts';
import { validateResources } from '../runtime/spec/validate-resources.ts';
import { checkRestartPolicy } from './check-spec.ts';
import { causeOf } from './control.ts';
import type { Parts } from './parts.ts';
import type { ContainerUpdate, Request } from './port.ts';
import { inWordsOf, refused } from './refused.ts';

/** What Docker updates; everything else of a request is ignored, as there. */
const UPDATABLE = [
  'blkioWeight', 'cpuShares', 'nanoCpus', 'cpuPeriodUs', 'cpuQuotaUs', 'cpusetCpus', 'cpusetMems', 'memoryBytes',
  'memorySwapBytes', 'memoryReservationBytes', 'kernelMemoryBytes', 'cpuRealtimePeriodUs', 'cpuRealtimeRuntimeUs', 'pidsLimit',
] as const satisfies readonly (keyof ResourceSpec)[]; // prettier-ignore

export async function update(
  parts: Parts,
  ref: string,
  change: ContainerUpdate,
  by: Request,
): Promise<{ readonly warnings: readonly string[] }> {
  if (change.restartPolicy !== null) checkRestartPolicy(change.restartPolicy);
  const asked = { ...NO_RESOURCES, ...change.resources };
  const { resources, warnings } = validateResources(asked, parts.host, { isUpdate: true });
  const container = parts.resolver.resolve(ref);
  if (container.state.at === 'removing' || container.state.at === 'dead') {
    throw refused(markedForRemovalOn(container.id, 'update'));
  }
  const { host } = container.spec;
  let merged: ResourceSpec;
  try {
    merged = mergeResources(host.resources, resources);
    if (change.restartPolicy !== null && host.autoRemove && change.restartPolicy.name !== 'no') {
      conflict('Restart policy cannot be updated because AutoRemove is enabled for the container');
    }
  } catch (error) {
    throw inWordsOf(`Cannot update container ${container.id}`, error);
  }
  const supervised = {
    ...(merged === host.resources ? {} : { resources: merged }),
    ...(change.restartPolicy === null ? {} : { restartPolicy: change.restartPolicy }),
  };
  await parts.supervisor.update(container.id, supervised, causeOf(by));
  return { warnings };
}

/** Zero and empty mean "as it is". The same object when nothing changes. */
export function mergeResources(present: ResourceSpec, asked: ResourceSpec): ResourceSpec {
  if (asked.nanoCpus > 0 && present.cpuPeriodUs > 0) {
    conflict('Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set');
  }
  if (asked.nanoCpus > 0 && present.cpuQuotaUs > 0) {
    conflict('Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set');
  }
  if (asked.cpuPeriodUs > 0 && present.nanoCpus > 0) {
    conflict('Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set');
  }
  if (asked.cpuQuotaUs > 0 && present.nanoCpus > 0) {
    conflict('Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set');
  }
  if (asked.memoryBytes !== 0 && asked.memoryBytes > present.memorySwapBytes && asked.memorySwapBytes === 0) {
    conflict(
      'Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time',
    );
  }
  const changed = UPDATABLE.filter((key) => asked[key] !== NO_RESOURCES[key]);
  if (changed.length === 0) return present;
  return { ...present, ...Object.fromEntries(changed.map((key) => [key, asked[key]])) };
}

function conflict(message: string): never {
  throw new EngineError('CONTAINER_SPEC_CONFLICT', message);
}
