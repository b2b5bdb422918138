/**
 * Asks a daemon over its API: the one named by --host, else by DOCKER_HOST, else the one on the default socket. TLS as the
 * docker CLI's: DOCKER_TLS_VERIFY and DOCKER_CERT_PATH.
 */
import { readFileSync } from 'node:fs';
import { request as httpRequest, type RequestOptions } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { join } from 'node:path';

import { EngineError } from '../core/engine-error.ts';

export const DEFAULT_HOST = 'unix:///run/longshore.sock';
const ANSWER_MS = 30_000;

type Environment = Readonly<Record<string, string | undefined>>;

export interface Answer {
  readonly status: number;
  readonly text: string;
}

/** @throws {EngineError} PARAMETER_INVALID for a host that is none; DAEMON_SHUTTING_DOWN when nobody answers */
export async function ask(host: string | null, path: string, env: Environment = process.env): Promise<Answer> {
  const named = host ?? env['DOCKER_HOST'];
  const chosen = named === undefined || named === '' ? DEFAULT_HOST : named;
  const { options, secure } = connectionTo(chosen, env);
  return await new Promise((resolve, reject) => {
    const fail = (error: Error): void =>
      reject(
        new EngineError('DAEMON_SHUTTING_DOWN', `no Longshore daemon answers at ${chosen}: ${error.message}`, {
          cause: error,
        }),
      );
    const send = secure ? httpsRequest : httpRequest;
    const request = send({ ...options, path, timeout: ANSWER_MS }, (answer) => {
      const chunks: Buffer[] = [];
      answer.on('data', (chunk: Buffer) => chunks.push(chunk));
      answer.once('error', fail);
      answer.once('end', () => resolve({ status: answer.statusCode ?? 0, text: Buffer.concat(chunks).toString() }));
    });
    request.once('timeout', () => request.destroy(new Error(`no answer within ${ANSWER_MS / 1000} s`)));
    request.once('error', fail);
    request.end();
  });
}

/** Exported for its test. */
export function connectionTo(
  host: string,
  env: Environment,
): { readonly options: RequestOptions; readonly secure: boolean } {
  const [, scheme, rest = ''] = /^([a-z]+):\/\/(.*)$/.exec(host) ?? [];
  if (scheme === 'unix' && rest !== '') return { options: { socketPath: rest }, secure: false };
  const secure = scheme === 'https' || (env['DOCKER_TLS_VERIFY'] ?? '') !== '';
  if (scheme !== 'tcp' && scheme !== 'http' && scheme !== 'https') {
    throw new EngineError('PARAMETER_INVALID', `unable to parse docker host \`${host}\``);
  }
  const { hostname, port } = new URL(`http://${rest}`);
  const options: RequestOptions = {
    host: hostname.replaceAll(/^\[|\]$/g, ''),
    port: port === '' ? (secure ? 2376 : 2375) : Number(port),
  };
  return { options: secure ? { ...options, ...certificates(env) } : options, secure };
}

function certificates(env: Environment): RequestOptions {
  const directory = env['DOCKER_CERT_PATH'] ?? join(env['HOME'] ?? '/root', '.docker');
  const read = (name: string): Buffer => readFileSync(join(directory, name));
  return { ca: read('ca.pem'), cert: read('cert.pem'), key: read('key.pem') } as RequestOptions;
}
