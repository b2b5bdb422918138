/** What the small benchmarks of this directory share: the engines that compare.sh names, and their API. */
import { execFileSync } from 'node:child_process';
import { request } from 'node:http';

export interface Engine {
  readonly name: string;
  readonly socketPath: string;
}

export const IMAGE = 'bench:1';

/** Of `--engine NAME=unix://SOCKET,pid=PID`. */
export function enginesOf(argv: readonly string[]): Engine[] {
  return argv.flatMap((word, at) => {
    const match = /^([^=]+)=unix:\/\/([^,]+)/.exec(word);
    return argv[at - 1] === '--engine' && match !== null ? [{ name: match[1]!, socketPath: match[2]! }] : [];
  });
}

export function setting(name: string, fallback: number): number {
  return Number(process.env[name] ?? fallback);
}

export function ask({ socketPath }: Engine, method: string, path: string, body?: object | Buffer): Promise<string> {
  const isTar = Buffer.isBuffer(body);
  return new Promise((resolve, reject) => {
    const headers = body === undefined ? {} : { 'content-type': isTar ? 'application/x-tar' : 'application/json' };
    const sending = request({ socketPath, method, path: `/v1.41${path}`, headers }, (answer) => {
      let text = '';
      answer.on('data', (chunk) => (text += String(chunk)));
      answer.once('end', () =>
        answer.statusCode! < 400 ? resolve(text) : reject(new Error(`${path}: ${answer.statusCode} ${text}`)),
      );
    });
    sending.once('error', reject);
    sending.end(isTar ? body : JSON.stringify(body));
  });
}

export async function importImage(engine: Engine): Promise<void> {
  const tar = execFileSync('sh', ['test/support/busybox-image.sh'], { maxBuffer: 1 << 30 });
  const [repo, tag] = IMAGE.split(':');
  await ask(engine, 'POST', `/images/create?fromSrc=-&repo=${repo}&tag=${tag}`, tar);
}

/** Its ID. */
export async function create(engine: Engine, hostConfig: object = {}): Promise<string> {
  const body = { Image: IMAGE, Cmd: ['sleep', '3600'], HostConfig: hostConfig };
  return (JSON.parse(await ask(engine, 'POST', '/containers/create', body)) as { Id: string }).Id;
}
