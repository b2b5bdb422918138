/**
 * Where the AWS SDKs look for credentials and the region, in their order: the daemon's environment, the shared files, the
 * container endpoint, the instance's metadata (IMDSv2). Source: AWS SDKs and Tools Reference Guide. Not of web identities
 * and of single sign-on: those need a token service.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import type { Options } from '../option-values.ts';
import type { DriverHost } from './driver.ts';
import type { HttpClient } from './http-client.ts';
import type { AwsCredentials } from './sigv4.ts';

const CONTAINER_ADDRESS = 'http://169.254.170.2';
const INSTANCE_ADDRESS = 'http://169.254.169.254';
const TOKEN_LIFE_S = 21_600;
/** Credentials are looked for again before they end, and now and then if they have no end. */
const KEEP_MS_MAX = 5 * 60_000;

export class AwsIdentity {
  readonly #options: Options;
  readonly #env: DriverHost['env'];
  readonly #client: HttpClient;
  #credentials: { readonly value: AwsCredentials; readonly untilMs: number } | null = null;
  #region = '';

  constructor(options: Options, env: DriverHost['env'], client: HttpClient) {
    this.#options = options;
    this.#env = env;
    this.#client = client;
  }

  /** They were refused. */
  forget(): void {
    this.#credentials = null;
  }

  async credentials(signal: AbortSignal): Promise<AwsCredentials> {
    if (this.#credentials !== null && Date.now() < this.#credentials.untilMs) return this.#credentials.value;
    const value = await this.#find(signal);
    this.#credentials = { value, untilMs: Date.now() + KEEP_MS_MAX };
    return value;
  }

  async region(signal: AbortSignal): Promise<string> {
    const env = this.#env;
    const named = this.#options['awslogs-region'] || env['AWS_REGION'] || env['AWS_DEFAULT_REGION'] || this.#region;
    if (named) return named;
    this.#region =
      (await this.#shared('AWS_CONFIG_FILE', 'config'))['region'] ??
      (await this.#instance('placement/region', signal).catch(() => '')) ??
      '';
    if (this.#region === '') throw new Error('Cannot determine region for awslogs driver');
    return this.#region;
  }

  async #find(signal: AbortSignal): Promise<AwsCredentials> {
    const env = this.#env;
    const endpoint = this.#options['awslogs-credentials-endpoint'];
    // Who names an endpoint means that one.
    if (endpoint) return this.#fromContainer(new URL(endpoint, CONTAINER_ADDRESS), signal);
    const given = credentialsOf(env, 'AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN');
    if (given !== null) return given;
    for (const [variable, name] of [
      ['AWS_SHARED_CREDENTIALS_FILE', 'credentials'],
      ['AWS_CONFIG_FILE', 'config'],
    ] as const) {
      // oxlint-disable-next-line no-await-in-loop
      const section = await this.#shared(variable, name);
      const found = credentialsOf(section, 'aws_access_key_id', 'aws_secret_access_key', 'aws_session_token');
      if (found !== null) return found;
    }
    const relative = env['AWS_CONTAINER_CREDENTIALS_RELATIVE_URI'];
    if (relative) return this.#fromContainer(new URL(relative, CONTAINER_ADDRESS), signal);
    const full = env['AWS_CONTAINER_CREDENTIALS_FULL_URI'];
    if (full) return this.#fromContainer(new URL(full), signal);
    return this.#fromInstance(signal);
  }

  async #fromContainer(url: URL, signal: AbortSignal): Promise<AwsCredentials> {
    const token = this.#env['AWS_CONTAINER_AUTHORIZATION_TOKEN'];
    const headers: Record<string, string> = token ? { authorization: token } : {};
    const { status, body } = await this.#client.send('GET', url, headers, null, signal);
    return answered(status, body, `the credentials endpoint answers ${status}`);
  }

  async #fromInstance(signal: AbortSignal): Promise<AwsCredentials> {
    const path = 'iam/security-credentials/';
    const role = (await this.#instance(path, signal).catch(() => '')).split('\n')[0] ?? '';
    if (role === '') throw new Error('NoCredentialProviders: no valid providers in chain');
    return answered(200, await this.#instance(`${path}${role}`, signal), 'the instance has no credentials');
  }

  /** IMDSv2. */
  async #instance(path: string, signal: AbortSignal): Promise<string> {
    const env = this.#env;
    if (env['AWS_EC2_METADATA_DISABLED']?.toLowerCase() === 'true') return '';
    const base = env['AWS_EC2_METADATA_SERVICE_ENDPOINT'] || INSTANCE_ADDRESS;
    const life = { 'x-aws-ec2-metadata-token-ttl-seconds': String(TOKEN_LIFE_S) };
    const soon = AbortSignal.any([signal, AbortSignal.timeout(2000)]);
    const token = await this.#client.send('PUT', new URL('/latest/api/token', base), life, null, soon);
    const headers: Record<string, string> = token.status === 200 ? { 'x-aws-ec2-metadata-token': token.body } : {};
    const url = new URL(`/latest/meta-data/${path}`, base);
    const { status, body } = await this.#client.send('GET', url, headers, null, soon);
    if (status !== 200) throw new Error(`the metadata of the instance answer ${status} for ${path}`);
    return body.trim();
  }

  /** The profile's section of a shared file; empty: there is none. */
  async #shared(variable: string, name: string): Promise<Options> {
    const path = this.#env[variable] || join(this.#env['HOME'] ?? '/root', '.aws', name);
    const text = await readFile(path, 'utf8').catch(() => '');
    const profile = this.#env['AWS_PROFILE'] || 'default';
    return sectionOf(text, name === 'config' && profile !== 'default' ? `profile ${profile}` : profile);
  }
}

function credentialsOf(
  from: Readonly<Record<string, string | undefined>>,
  id: string,
  secret: string,
  token: string,
): AwsCredentials | null {
  const [accessKeyId, secretAccessKey] = [from[id], from[secret]];
  if (!accessKeyId || !secretAccessKey) return null;
  return { accessKeyId, secretAccessKey, sessionToken: from[token] ?? '' };
}

function answered(status: number, body: string, otherwise: string): AwsCredentials {
  const fields = (status === 200 ? JSON.parse(body) : {}) as Readonly<Record<string, string | undefined>>;
  const found = credentialsOf(fields, 'AccessKeyId', 'SecretAccessKey', 'Token');
  if (found === null) throw new Error(`NoCredentialProviders: ${otherwise}`);
  return found;
}

/** One section of an INI file. */
function sectionOf(text: string, name: string): Record<string, string> {
  const found: Record<string, string> = {};
  let isIn = false;
  for (const line of text.split('\n')) {
    const header = /^\s*\[([^\]]*)\]/.exec(line);
    if (header !== null) isIn = header[1]?.trim() === name;
    const pair = /^\s*([\w-]+)\s*=\s*(.*?)\s*$/.exec(line);
    if (isIn && pair !== null) found[pair[1] as string] = pair[2] as string;
  }
  return found;
}
