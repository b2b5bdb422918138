/** One POST of a bounded answer, with kept connections. What a service answers is judged by its driver. */
import { Agent as HttpAgent, request as requestPlain } from 'node:http';
import { Agent as HttpsAgent, request as requestSecure, type AgentOptions } from 'node:https';

const ANSWER_BYTES_MAX = 64 * 1024;

export interface HttpAnswer {
  readonly status: number;
  readonly body: string;
}

export class HttpClient implements Disposable {
  readonly #plain = new HttpAgent({ keepAlive: true, maxSockets: 1 });
  readonly #secure: HttpsAgent;

  constructor(tls: AgentOptions = {}) {
    this.#secure = new HttpsAgent({ keepAlive: true, maxSockets: 1, ...tls });
  }

  async send(
    method: string,
    url: URL,
    headers: Readonly<Record<string, string>>,
    body: Uint8Array | null,
    signal: AbortSignal,
  ): Promise<HttpAnswer> {
    const isSecure = url.protocol === 'https:';
    const length: Record<string, string> = body === null ? {} : { 'content-length': String(body.length) };
    return new Promise((resolve, reject) => {
      const options = {
        method,
        headers: { ...headers, ...length },
        signal,
        agent: isSecure ? this.#secure : this.#plain,
      };
      const request = (isSecure ? requestSecure : requestPlain)(url, options, (response) => {
        const pieces: Buffer[] = [];
        let size = 0;
        response.on('data', (chunk: Buffer) => {
          if (size < ANSWER_BYTES_MAX) pieces.push(chunk);
          size += chunk.length;
        });
        response.on('error', reject);
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, body: Buffer.concat(pieces).toString('utf8') }),
        );
      });
      request.on('error', reject);
      request.end(body ?? undefined);
    });
  }

  [Symbol.dispose](): void {
    this.#plain.destroy();
    this.#secure.destroy();
  }
}
