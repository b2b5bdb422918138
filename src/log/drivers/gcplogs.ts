/**
 * Google Cloud Logging by its REST API. Source: moby daemon/logger/gcplogs (v28), the entries.write reference. The
 * credentials are a service account's key file (GOOGLE_APPLICATION_CREDENTIALS of the daemon), or the metadata server's.
 */
import { createSign } from 'node:crypto';
import { readFile } from 'node:fs/promises';

import { refuseAtStart } from '../option-values.ts';
import type { LogEntry } from '../port.ts';
import {
  RefusedForGood,
  textOf,
  type Destination,
  type DriverHost,
  type LogDriver,
  type MessageSource,
} from './driver.ts';
import { HttpClient } from './http-client.ts';

const LINGER_MS = 1000;
const SCOPE = 'https://www.googleapis.com/auth/logging.write';
const LOG_ID = 'gcplogs-docker-driver';
const TOKEN_MARGIN_MS = 60_000;

export const gcplogs: LogDriver = {
  name: 'gcplogs',
  options: [
    'gcp-project', 'labels', 'labels-regex', 'env', 'env-regex', 'gcp-log-cmd', 'gcp-meta-zone', 'gcp-meta-name', 'gcp-meta-id',
  ], // prettier-ignore
  unknown: (option) => `${JSON.stringify(option)} is not a valid option for the gcplogs driver`,
  check(options) {
    if (options['gcp-project'] === '')
      refuseAtStart(
        "No project was specified and couldn't read project from the metadata server. Please specify a project",
      );
  },
  open: (source, host) => new GcpLogs(source, host),
};

class GcpLogs implements Destination {
  readonly confirms = 'answer';
  readonly lingerMs = LINGER_MS;
  readonly isBroken = false;
  readonly #source: MessageSource;
  readonly #env: DriverHost['env'];
  readonly #client = new HttpClient();
  #token: { readonly value: string; readonly untilMs: number } | null = null;
  #account: ServiceAccount | null = null;
  #project = '';

  constructor(source: MessageSource, { env }: DriverHost) {
    this.#source = source;
    this.#env = env;
  }

  async send(batch: readonly LogEntry[], signal: AbortSignal): Promise<void> {
    const token = await this.#tokenNow(signal);
    const instance = this.#instance();
    const container = this.#container();
    const entries = batch.map((entry) => ({
      logName: `projects/${this.#project}/logs/${LOG_ID}`,
      resource:
        instance === null
          ? { type: 'global' }
          : { type: 'gce_instance', labels: { instance_id: instance.id ?? '', zone: instance.zone ?? '' } },
      timestamp: entry.time,
      jsonPayload: { ...(instance !== null && { instance }), container, message: textOf(entry) },
    }));
    const endpoint =
      this.#env['LONGSHORE_GCPLOGS_ENDPOINT'] ||
      `https://logging.${this.#account?.universe_domain ?? 'googleapis.com'}`;
    const url = new URL('/v2/entries:write', endpoint);
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
    const { status, body } = await this.#client.send(
      'POST',
      url,
      headers,
      Buffer.from(JSON.stringify({ entries })),
      signal,
    );
    if (status === 200) return;
    const message = `gcplogs: entries.write: ${status} ${body.slice(0, 500)}`;
    if (status === 401) this.#token = null;
    if (status === 400 || status === 413) throw new RefusedForGood(message);
    throw new Error(message);
  }

  #instance(): { readonly zone?: string; readonly name?: string; readonly id?: string } | null {
    const { options } = this.#source;
    const given = {
      ...(options['gcp-meta-zone'] && { zone: options['gcp-meta-zone'] }),
      ...(options['gcp-meta-name'] && { name: options['gcp-meta-name'] }),
      ...(options['gcp-meta-id'] && { id: options['gcp-meta-id'] }),
    };
    return Object.keys(given).length === 0 ? null : given;
  }

  #container(): object {
    const { subject, attributes, options } = this.#source;
    return {
      name: `/${subject.containerName}`,
      id: subject.containerId,
      imageName: subject.imageName,
      imageId: subject.imageId,
      created: subject.createdAt,
      ...(options['gcp-log-cmd'] === 'true' && { command: subject.command.join(' ') }),
      ...(Object.keys(attributes).length > 0 && { metadata: attributes }),
    };
  }

  async #tokenNow(signal: AbortSignal): Promise<string> {
    if (this.#token !== null && Date.now() < this.#token.untilMs) return this.#token.value;
    const path = this.#env['GOOGLE_APPLICATION_CREDENTIALS'] ?? '';
    const answer =
      path === ''
        ? await this.#metadata('instance/service-accounts/default/token', signal)
        : await this.#exchange(path, signal);
    const token = JSON.parse(answer) as { readonly access_token?: unknown; readonly expires_in?: unknown };
    if (typeof token.access_token !== 'string') throw new Error('gcplogs: the answer to a token request has none');
    this.#project = this.#source.options['gcp-project'] ?? this.#account?.project_id ?? '';
    if (this.#project === '') this.#project = await this.#metadata('project/project-id', signal);
    this.#token = {
      value: token.access_token,
      untilMs: Date.now() + Number(token.expires_in ?? 3600) * 1000 - TOKEN_MARGIN_MS,
    };
    return token.access_token;
  }

  /** RFC 7523: a signed statement of who we are for a token. */
  async #exchange(path: string, signal: AbortSignal): Promise<string> {
    const account = JSON.parse(await readFile(path, 'utf8')) as ServiceAccount;
    this.#account = account;
    const nowS = Math.trunc(Date.now() / 1000);
    const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
    const claims = { iss: account.client_email, scope: SCOPE, aud: account.token_uri, iat: nowS, exp: nowS + 3600 };
    const text = `${encode({ alg: 'RS256', typ: 'JWT', kid: account.private_key_id })}.${encode(claims)}`;
    const signature = createSign('RSA-SHA256').update(text).sign(account.private_key).toString('base64url');
    const form = new URLSearchParams({
      grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer',
      assertion: `${text}.${signature}`,
    });
    const headers = { 'content-type': 'application/x-www-form-urlencoded' };
    const { status, body } = await this.#client.send(
      'POST',
      new URL(account.token_uri),
      headers,
      Buffer.from(form.toString()),
      signal,
    );
    if (status !== 200) throw new Error(`gcplogs: no token: ${status} ${body.slice(0, 500)}`);
    return body;
  }

  async #metadata(path: string, signal: AbortSignal): Promise<string> {
    const host = this.#env['GCE_METADATA_HOST'] || '169.254.169.254';
    const url = new URL(`http://${host}/computeMetadata/v1/${path}`);
    const { status, body } = await this.#client.send('GET', url, { 'metadata-flavor': 'Google' }, null, signal);
    if (status !== 200) throw new Error(`gcplogs: the metadata server answers ${status} for ${path}`);
    return body;
  }

  [Symbol.dispose](): void {
    this.#client[Symbol.dispose]();
  }
}

/** The key file. Spelling: Google's. */
interface ServiceAccount {
  readonly project_id?: string;
  readonly private_key_id: string;
  readonly private_key: string;
  readonly client_email: string;
  readonly token_uri: string;
  readonly universe_domain?: string;
}
