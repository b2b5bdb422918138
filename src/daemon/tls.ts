/** The files behind --tlscert, --tlskey and --tlscacert. */
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';

import type { TlsOptions } from '../api/server.ts';
import { EngineError, messageOf } from '../core/engine-error.ts';
import type { DaemonOptions } from './daemon-options.ts';

/**
 * Files that were not named are where dockerd looks for them.
 * @throws {EngineError} PARAMETER_INVALID naming the flag and the file
 */
export async function tlsFiles(
  options: Pick<DaemonOptions, 'tls' | 'tlsVerify' | 'tlsCert' | 'tlsKey' | 'tlsCaCert'>,
): Promise<TlsOptions | null> {
  if (!options.tls) return null;
  const directory = process.env['DOCKER_CERT_PATH'] || join(homedir(), '.docker');
  const read = (flag: string, given: string, name: string): Promise<Buffer> =>
    readFile(given === '' ? join(directory, name) : given).catch((error: unknown) => {
      throw new EngineError('PARAMETER_INVALID', `--${flag}: ${messageOf(error)}`, { cause: error });
    });
  const [cert, key, ca] = await Promise.all([
    read('tlscert', options.tlsCert, 'cert.pem'),
    read('tlskey', options.tlsKey, 'key.pem'),
    options.tlsVerify ? read('tlscacert', options.tlsCaCert, 'ca.pem') : null,
  ]);
  return { cert: cert as Buffer, key: key as Buffer, ca };
}
