/** What a directory of certs.d says about one registry. Source: moby v28 registry/registry.go (loadTLSConfig). */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { EngineError } from '../../core/engine-error.ts';

export interface Certificates {
  /** Trusted beside the well-known ones. */
  readonly ca?: string[];
  readonly cert?: Buffer[];
  readonly key?: Buffer[];
}

/** *.crt are CAs, NAME.cert with NAME.key client certificates. @throws PARAMETER_INVALID when one of a pair is missing */
export async function readCertificates(directory: string): Promise<Certificates> {
  let names: string[];
  try {
    names = (await readdir(directory)).toSorted();
  } catch {
    return {}; // most registries have none
  }
  const ended = (suffix: string): string[] => names.filter((name) => name.endsWith(suffix));
  const partner = (name: string, from: string, to: string): string => name.slice(0, -from.length) + to;
  for (const cert of ended('.cert')) {
    const key = partner(cert, '.cert', '.key');
    if (!names.includes(key))
      throw invalid(`missing key ${key} for client certificate ${cert}. CA certificates must use the extension .crt`);
  }
  for (const key of ended('.key')) {
    const cert = partner(key, '.key', '.cert');
    if (!names.includes(cert)) throw invalid(`missing client certificate ${cert} for key ${key}`);
  }
  const read = async (wanted: readonly string[]): Promise<Buffer[]> =>
    await Promise.all(wanted.map((name) => readFile(join(directory, name))));
  const pairs = ended('.cert');
  const [ca, cert, key] = await Promise.all([
    read(ended('.crt')),
    read(pairs),
    read(pairs.map((name) => partner(name, '.cert', '.key'))),
  ]);
  // Only who needs them pays for the well-known ones.
  const known = ca.length > 0 ? (await import('node:tls')).rootCertificates : [];
  return {
    ...(ca.length > 0 && { ca: [...known, ...ca.map(String)] }),
    ...(cert.length > 0 && { cert, key }),
  };
}

function invalid(message: string): EngineError {
  return new EngineError('PARAMETER_INVALID', message);
}
