/** The files behind --tlscert, --tlskey and --tlscacert. */
import { readFile } from 'node:fs/promises';

import type { TlsOptions } from '../api/server.ts';
import { EngineError, messageOf } from '../core/engine-error.ts';
import type { DaemonOptions } from './daemon-options.ts';

/** @throws {EngineError} PARAMETER_INVALID naming the flag and the file */
export async function tlsFiles(
  options: Pick<DaemonOptions, 'tls' | 'tlsVerify' | 'tlsCert' | 'tlsKey' | 'tlsCaCert'>,
): Promise<TlsOptions | null> {
  if (!options.tls) return null;
  const read = (flag: string, path: string): Promise<Buffer> =>
    readFile(path).catch((error: unknown) => {
      throw new EngineError('PARAMETER_INVALID', `--${flag}: ${messageOf(error)}`, { cause: error });
    });
  const [cert, key, ca] = await Promise.all([
    read('tlscert', options.tlsCert),
    read('tlskey', options.tlsKey),
    options.tlsVerify ? read('tlscacert', options.tlsCaCert) : null,
  ]);
  return { cert: cert as Buffer, key: key as Buffer, ca };
}
