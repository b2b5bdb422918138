/** nft scripts through libnftables, in this process: 0.2 ms instead of 9 for the program. Source: libnftables(3). Worker thread only. */
import koffi, { type LibraryHandle } from 'koffi';

import { ERRNO, isErrno, KernelError, quoted } from './kernel-error.ts';
import { closeFile, openFile, text } from './libc.ts';
import { NETLINK_NETFILTER, NetlinkSocket } from './netlink-socket.ts';
import { insideNamespaceAt } from './netns.ts';
import { batchEdge, redirectRequests } from './nft-message.ts';

type Context = bigint;

interface Library {
  readonly make: (flags: number) => Context | null;
  readonly free: (context: Context) => void;
  readonly setOutputFlags: (context: Context, flags: number) => void;
  readonly bufferOutput: (context: Context) => number;
  readonly bufferError: (context: Context) => number;
  readonly output: (context: Context) => string | null;
  readonly error: (context: Context) => string | null;
  readonly run: (context: Context, script: string) => number;
}

const SCRIPT_SHOWN_MAX = 300;
const DESCRIPTOR_MAX = 1000; // FD_SETSIZE less some that others may open meanwhile
/** Lists say the handle of each rule, by which alone a rule can be deleted. */
const NFT_CTX_OUTPUT_HANDLE = 8;

let library: Library | null = null;
/** The host's. Its netlink socket belongs to the namespace that it was made in. */
let hostContext: Context | null = null;

/** One transaction. Calls are serialised by being synchronous on one thread. */
export function runScript(script: string): string {
  hostContext ??= makeContext();
  return runIn(hostContext, script);
}

/** Without libnftables: see nft-message.ts. */
export function redirectPortIn(
  namespace: string,
  options: Omit<Parameters<typeof redirectRequests>[0], 'replaces'>,
): void {
  using socket = insideNamespaceAt(namespace, () => new NetlinkSocket(NETLINK_NETFILTER));
  const transact = (replaces: boolean): void =>
    socket.transact(batchEdge('begin'), redirectRequests({ ...options, replaces }), batchEdge('end'));
  try {
    transact(false);
  } catch (error) {
    if (!isErrno(error, ERRNO.EEXIST)) throw error;
    transact(true);
  }
}

export function closeNftables(): void {
  if (hostContext !== null) load().free(hostContext);
  hostContext = null;
}

function runIn(context: Context, script: string): string {
  const nft = load();
  if (nft.run(context, text(script, 'nft_run_cmd_from_buffer')) === 0) return nft.output(context) ?? '';
  const said = (nft.error(context) ?? '').trim();
  const shown = script.length > SCRIPT_SHOWN_MAX ? `${script.slice(0, SCRIPT_SHOWN_MAX)}…` : script;
  throw new KernelError('nft_run_cmd_from_buffer', 0, quoted(shown), said);
}

function makeContext(): Context {
  const nft = load();
  // libnftables waits by select(2), which ends the process when its socket has a higher number.
  const lowest = openFile('/', 0);
  closeFile(lowest);
  if (lowest > DESCRIPTOR_MAX)
    throw new KernelError('nft_ctx_new', ERRNO.EMFILE, `descriptor=${lowest}`, 'too many files are open');
  const context = nft.make(0);
  if (context === null) throw new KernelError('nft_ctx_new', ERRNO.ENOMEM, '');
  if (nft.bufferOutput(context) !== 0 || nft.bufferError(context) !== 0) {
    nft.free(context);
    throw new KernelError('nft_ctx_buffer_output', ERRNO.ENOMEM, '');
  }
  nft.setOutputFlags(context, NFT_CTX_OUTPUT_HANDLE);
  return context;
}

function load(): Library {
  if (library !== null) return library;
  let file: LibraryHandle;
  try {
    file = koffi.load('libnftables.so.1');
  } catch (error) {
    throw new KernelError(
      'dlopen',
      ERRNO.ENOENT,
      'libnftables.so.1',
      `${error instanceof Error ? error.message : String(error)}; it is in the package libnftables1 (Debian, Ubuntu)`,
    );
  }
  const bind = <F extends (...values: never[]) => unknown>(definition: string): F =>
    file.func(definition) as unknown as F;
  library = {
    make: bind('void *nft_ctx_new(uint32_t flags)'),
    free: bind('void nft_ctx_free(void *context)'),
    setOutputFlags: bind('void nft_ctx_output_set_flags(void *context, uint32_t flags)'),
    bufferOutput: bind('int nft_ctx_buffer_output(void *context)'),
    bufferError: bind('int nft_ctx_buffer_error(void *context)'),
    output: bind('const char *nft_ctx_get_output_buffer(void *context)'),
    error: bind('const char *nft_ctx_get_error_buffer(void *context)'),
    run: bind('int nft_run_cmd_from_buffer(void *context, const char *script)'),
  };
  return library;
}
