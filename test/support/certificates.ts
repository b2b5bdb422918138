/** A certificate authority of a test's own, by the openssl command: for services that speak TLS. */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface KeyPair {
  readonly certPath: string;
  readonly keyPath: string;
  readonly cert: Buffer;
  readonly key: Buffer;
}

/** Makes its files in `directory`, which is the caller's. */
export class Authority {
  readonly #directory: string;
  readonly own: KeyPair;

  constructor(directory: string, name = 'ca') {
    this.#directory = directory;
    const [keyPath, certPath] = [join(directory, `${name}.key`), join(directory, `${name}.pem`)];
    openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2',
      '-subj', `/CN=${name}`, '-addext', 'basicConstraints=critical,CA:TRUE', '-keyout', keyPath, '-out', certPath); // prettier-ignore
    this.own = { certPath, keyPath, cert: readFileSync(certPath), key: readFileSync(keyPath) };
  }

  /** `names`: as subjectAltName has them: "IP:127.0.0.1", "DNS:localhost". */
  issue(name: string, names: readonly string[]): KeyPair {
    const path = (extension: string): string => join(this.#directory, `${name}.${extension}`);
    openssl('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-subj', `/CN=${name}`,
      '-keyout', path('key'), '-out', path('csr')); // prettier-ignore
    writeFileSync(path('ext'), `subjectAltName=${names.join(',')}\n`);
    openssl('x509', '-req', '-in', path('csr'), '-CA', this.own.certPath, '-CAkey', this.own.keyPath, '-days', '2',
      '-set_serial', String(Math.trunc(Math.random() * 1e9)), '-extfile', path('ext'), '-out', path('pem')); // prettier-ignore
    return {
      certPath: path('pem'),
      keyPath: path('key'),
      cert: readFileSync(path('pem')),
      key: readFileSync(path('key')),
    };
  }
}

function openssl(...argv: readonly string[]): void {
  execFileSync('openssl', argv, { stdio: ['ignore', 'ignore', 'pipe'] });
}
