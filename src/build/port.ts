/** What POST /build asks for. Source: moby api/types/build (v28), the classic builder. */
import type { Platform, Progress, RegistryAuth } from '../image/port.ts';

export interface Builder {
  /** Errors of the Dockerfile and of steps come as a last Progress of kind "error"; a wrong request throws before the first. */
  build(request: BuildRequest, signal: AbortSignal): AsyncIterable<Progress>;
}

export interface BuildRequest {
  /** The context as a tar, in any compression. */
  readonly context: AsyncIterable<Uint8Array>;
  /** Instead of it: URL of a tar, or of a Dockerfile that needs no context; "" for none. */
  readonly remote: string;
  /** Path of the Dockerfile in the context; "" is "Dockerfile". */
  readonly dockerfile: string;
  readonly tags: readonly string[];
  readonly target: string;
  readonly buildArgs: Readonly<Record<string, string | null>>;
  readonly labels: Readonly<Record<string, string>>;
  readonly quiet: boolean;
  readonly noCache: boolean;
  /** Images whose steps count as the cache, instead of the whole store; empty: the store. */
  readonly cacheFrom: readonly string[];
  readonly pull: boolean;
  /** Remove containers of steps that went well; `forceRemove` also of those that failed. */
  readonly remove: boolean;
  readonly forceRemove: boolean;
  readonly squash: boolean;
  readonly platform: Platform | null;
  readonly networkMode: string;
  readonly extraHosts: readonly string[] | null;
  readonly memoryBytes: number;
  readonly memorySwapBytes: number;
  readonly cpuShares: number;
  readonly cpuPeriodUs: number;
  readonly cpuQuotaUs: number;
  readonly cpusetCpus: string;
  readonly cpusetMems: string;
  readonly cgroupParent: string;
  readonly shmSizeBytes: number;
  readonly ulimits: readonly { readonly name: string; readonly soft: number; readonly hard: number }[] | null;
  readonly securityOpt: readonly string[] | null;
  /** Credentials by registry address. */
  readonly auths: Readonly<Record<string, RegistryAuth>>;
}
