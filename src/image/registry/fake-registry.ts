/** A registry in memory, for this room's tests: as the distribution spec says, except where a test meddles. */
import { createHash, randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer, type ServerOptions } from 'node:https';
import type { AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';

import { MEDIA } from '../oci.ts';
import { encodeHeader, padding } from '../tar-header.ts';

export interface Blob {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

/** True: it has been answered. */
export type Meddle = (request: IncomingMessage, response: ServerResponse) => boolean;

export class FakeRegistry implements AsyncDisposable {
  readonly blobs = new Map<string, Buffer>();
  /** By "repository:tag" and "repository@digest". */
  readonly manifests = new Map<string, { readonly bytes: Buffer; readonly mediaType: string }>();
  /** "GET /v2/…", in order. */
  readonly requests: string[] = [];
  readonly #configs = new Set<string>();
  readonly #server;
  meddle: Meddle = () => false;
  /** Blobs come in pieces with pauses between them; told of each, with the bytes of blobs that have been sent so far. */
  slowly: { readonly pieceBytes: number; readonly pauseMs: number; readonly onSent: (bytes: number) => void } | null =
    null;
  sentBytes = 0;
  /** Of requests for a part of a blob: its first byte. */
  readonly ranges: number[] = [];
  /** Requests for layers that are being answered, and the most there ever were. */
  now = 0;
  most = 0;

  constructor(tls?: ServerOptions) {
    const handle = (request: IncomingMessage, response: ServerResponse): void => {
      this.requests.push(`${request.method} ${request.url}`);
      if (!this.meddle(request, response)) this.answer(request, response);
    };
    this.#server = tls === undefined ? createServer(handle) : createTlsServer(tls, handle);
  }

  static async start(tls?: ServerOptions): Promise<FakeRegistry> {
    const registry = new FakeRegistry(tls);
    await new Promise<void>((resolve) => registry.#server.listen(0, '127.0.0.1', resolve));
    return registry;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get host(): string {
    return `127.0.0.1:${this.port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  addBlob(bytes: Buffer, mediaType: string): Blob {
    const digest = digestOf(bytes);
    this.blobs.set(digest, bytes);
    return { mediaType, digest, size: bytes.length };
  }

  /** Under a tag and its digest. */
  addManifest(repository: string, tag: string, content: unknown, mediaType: string): Blob {
    const bytes = Buffer.isBuffer(content) ? content : Buffer.from(JSON.stringify(content));
    const digest = digestOf(bytes);
    this.manifests.set(`${repository}:${tag}`, { bytes, mediaType });
    this.manifests.set(`${repository}@${digest}`, { bytes, mediaType });
    return { mediaType, digest, size: bytes.length };
  }

  /** An image whose layers have one file each, with so many bytes that do not compress. */
  addImage(
    repository: string,
    tag: string,
    layerBytes: readonly number[] = [100],
    platform: { readonly architecture?: string; readonly variant?: string } = {},
  ): Blob & { readonly config: Blob; readonly layers: readonly Blob[] } {
    const tars = layerBytes.map((bytes, i) => tarOf(`f${i}`, randomBytes(bytes)));
    const layers = tars.map((tar) => this.addBlob(gzipSync(tar), MEDIA.dockerLayerGzip));
    const file = { os: 'linux', architecture: 'amd64', ...platform, config: {} };
    const rootfs = { type: 'layers', diff_ids: tars.map(digestOf) };
    const config = this.addBlob(Buffer.from(JSON.stringify({ ...file, rootfs })), MEDIA.dockerConfig);
    this.#configs.add(config.digest);
    const content = { schemaVersion: 2, mediaType: MEDIA.dockerManifest, config, layers };
    return { ...this.addManifest(repository, tag, content, MEDIA.dockerManifest), config, layers };
  }

  answer(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? '/', 'http://registry');
    const [, repository = '', kind = '', name = ''] =
      /^\/v2\/(.+)\/(manifests|blobs|tags)\/([^/]+)$/.exec(url.pathname) ?? [];
    const refuse = (status: number, code: string): void =>
      void response
        .writeHead(status, { 'Content-Type': 'application/json' })
        .end(JSON.stringify({ errors: [{ code, message: code.toLowerCase().replaceAll('_', ' ') }] }));
    if (url.pathname === '/v2/') return void response.end('{}');
    if (kind === 'tags') {
      const tags = [...this.manifests.keys()].filter((key) => key.startsWith(`${repository}:`));
      return void response.end(
        JSON.stringify({ name: repository, tags: tags.map((key) => key.slice(repository.length + 1)) }),
      );
    }
    if (kind === 'manifests') {
      const found = this.manifests.get(`${repository}${name.includes(':') ? '@' : ':'}${name}`);
      if (found === undefined) return refuse(404, 'MANIFEST_UNKNOWN');
      response.setHeader('Docker-Content-Digest', digestOf(found.bytes));
      response.setHeader('Content-Type', found.mediaType);
      return void response.end(found.bytes);
    }
    const blob = this.blobs.get(name);
    if (kind !== 'blobs' || blob === undefined) return refuse(404, 'BLOB_UNKNOWN');
    if (!this.#configs.has(name)) {
      this.most = Math.max(this.most, ++this.now);
      let isAnswered = false;
      const end = (): void => {
        if (!isAnswered) this.now--;
        isAnswered = true;
      };
      response.once('finish', end).once('close', end);
    }
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
    if (from >= blob.length && from > 0) return void response.writeHead(416).end();
    if (from > 0) this.ranges.push(from);
    if (from > 0) response.setHeader('Content-Range', `bytes ${from}-${blob.length - 1}/${blob.length}`);
    response.writeHead(from > 0 ? 206 : 200, { 'Content-Length': blob.length - from });
    // A moment, so that those which come together are seen together.
    if (request.method === 'HEAD') response.end();
    else if (this.slowly === null) setTimeout(() => response.end(blob.subarray(from)), 20);
    else this.#trickle(response, blob.subarray(from), this.slowly);
  }

  #trickle(response: ServerResponse, bytes: Buffer, slowly: NonNullable<FakeRegistry['slowly']>): void {
    if (response.destroyed) return;
    const piece = bytes.subarray(0, slowly.pieceBytes);
    response.write(piece);
    this.sentBytes += piece.length;
    slowly.onSent(this.sentBytes);
    if (piece.length === bytes.length) response.end();
    else setTimeout(() => this.#trickle(response, bytes.subarray(piece.length), slowly), slowly.pauseMs);
  }
}

export function digestOf(bytes: Buffer): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

/** One file. */
export function tarOf(name: string, content: Buffer): Buffer {
  const header = encodeHeader({
    name,
    type: 'file',
    mode: 0o644,
    uid: 0,
    gid: 0,
    mtimeNs: 0n,
    linkName: '',
    major: 0,
    minor: 0,
    xattrs: new Map(),
    sizeBytes: content.length,
  });
  return Buffer.concat([header, content, padding(content.length), Buffer.alloc(1024)]);
}
