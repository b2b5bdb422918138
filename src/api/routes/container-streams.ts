/** What a container writes and reads: attach, logs, stats. Source: moby api/server/router/container (v28). */
import { setTimeout as sleep } from 'node:timers/promises';

import { EngineError, messageOf } from '../../core/engine-error.ts';
import { attachWebSocket } from '../attach-websocket.ts';
import { writeHead } from '../hijack.ts';
import { statusOf } from '../http-error.ts';
import { formatLogBatch, frame, type LogFormat } from '../log-stream.ts';
import { sendChunks, writeSlowly } from '../reply.ts';
import { param, type AnyRoute, type Exchange, type HijackedConnection, type Reply } from '../route.ts';
import { ClientSide, splice } from '../splice.ts';
import { formatStats, statsText } from '../wire/stats.ts';
import { parseTime } from '../wire/time.ts';
import type { Containers } from '../../container/port.ts';

export const RAW_STREAM = 'application/vnd.docker.raw-stream';
export const MULTIPLEXED_STREAM = 'application/vnd.docker.multiplexed-stream';

/** Clients like docker-py lose what comes along with the head; the past is there at once, so it waits for them to read it. */
const HEAD_LEAD_MS = 10;

export const containerStreamRoutes: readonly AnyRoute[] = [
  { method: 'GET', path: '/containers/{name}/attach/ws', hijack: attachWebSocket },
  { method: 'POST', path: '/containers/{name}/attach', hijack: attach },
  { method: 'GET', path: '/containers/{name}/logs', handle: getLogs },
  { method: 'GET', path: '/containers/{name}/stats', handle: getStats },
];

type Attachment = Awaited<ReturnType<Containers['attach']>>;

async function attach(exchange: Exchange, connection: HijackedConnection): Promise<void> {
  const { parts, query, minor } = exchange;
  const name = param(exchange, 'name');
  const streams = { stdin: query.flag('stdin'), stdout: query.flag('stdout'), stderr: query.flag('stderr') };
  const { socket, early } = await connection.take();
  const gone = new AbortController();
  socket.once('close', () => gone.abort());
  const signal = AbortSignal.any([gone.signal, exchange.signal]);

  let attached: Attachment;
  try {
    attached = await parts.containers.attach(
      name,
      { streams, logs: query.flag('logs'), stream: query.flag('stream'), detachKeys: query.text('detachKeys') || null },
      signal,
    );
  } catch (error) {
    // moby answers on the raw connection here: text and not JSON.
    writeHead(socket, statusOf(error), { 'Content-Type': RAW_STREAM });
    socket.end(`${messageOf(error)}\r\n`);
    socket.resume();
    return;
  }
  if (connection.upgrade) {
    const multiplexed = !attached.tty && minor >= 42;
    writeHead(socket, 101, {
      'Content-Type': multiplexed ? MULTIPLEXED_STREAM : RAW_STREAM,
      Connection: 'Upgrade',
      Upgrade: 'tcp',
    });
  } else {
    writeHead(socket, 200, { 'Content-Type': RAW_STREAM });
  }
  const client = new ClientSide(socket, early);
  if (attached.past !== null) await sleep(HEAD_LEAD_MS);
  await serveAttachment(exchange, client, attached, streams);
}

async function serveAttachment(
  { parts, params }: Exchange,
  client: ClientSide,
  attached: Attachment,
  streams: { readonly stdin: boolean; readonly stdout: boolean; readonly stderr: boolean },
): Promise<void> {
  const format: LogFormat = {
    multiplexed: !attached.tty,
    stdout: streams.stdout,
    stderr: streams.stderr,
    timestamps: false,
    details: false,
  };
  let linger = true;
  try {
    if (attached.past !== null)
      for await (const batch of attached.past) await client.write(formatLogBatch(batch, format));
    const stream = attached.stream === null ? null : await attached.stream;
    if (stream === null) return;
    const end = await splice(client, stream, { stdin: streams.stdin, detachKeys: attached.detachKeys });
    if (end === 'detached') publishDetach(parts, params['name']!);
    linger = end !== 'detached';
  } catch (error) {
    parts.logger.warn({ error, container: params['name'] }, 'attach failed');
  } finally {
    client.finish({ linger });
  }
}

function publishDetach(parts: Exchange['parts'], name: string): void {
  try {
    const { id, name: containerName, spec } = parts.containers.resolve(name);
    parts.events.publish({
      type: 'container',
      action: 'detach',
      actor: { id, attributes: { ...spec.process.labels, image: spec.process.image, name: containerName } },
    });
  } catch {
    // It was removed in the meantime: nothing to say about it any more.
  }
}

async function getLogs(exchange: Exchange): Promise<void> {
  const { parts, query, minor, response, signal } = exchange;
  const [stdout, stderr] = [query.flag('stdout'), query.flag('stderr')];
  if (!stdout && !stderr)
    throw new EngineError('PARAMETER_INVALID', 'Bad parameters: you must choose at least one stream');
  const nowNs = parts.clock.wallNs();
  const time = (name: string): bigint | null =>
    ['', '0'].includes(query.text(name)) ? null : parseTime(query.text(name), nowNs);
  const tail = query.text('tail');
  const { tty, entries } = await parts.containers.logs(
    param(exchange, 'name'),
    {
      stdout,
      stderr,
      sinceNs: time('since'),
      untilNs: time('until'),
      tail: /^\+?\d+$/.test(tail) ? Number(tail) : null,
      follow: query.flag('follow'),
    },
    signal,
  );
  const format: LogFormat = {
    multiplexed: !tty,
    stdout,
    stderr,
    timestamps: query.flag('timestamps'),
    details: query.flag('details'),
  };
  const batches = async function* (): AsyncGenerator<Buffer> {
    for await (const batch of entries) {
      const chunk = formatLogBatch(batch, format);
      if (chunk.length > 0) yield chunk;
    }
  };
  await sendChunks(response, batches(), {
    contentType: !tty && minor >= 42 ? MULTIPLEXED_STREAM : RAW_STREAM,
    signal,
    headersFirst: true,
    onLateError: (error) => {
      parts.logger.warn({ error, container: param(exchange, 'name') }, 'reading logs failed');
      const text = Buffer.from(`Error grabbing logs: ${messageOf(error)}\n`);
      return (tty ? text : frame('systemerr', text)).toString('latin1');
    },
  });
}

async function getStats(exchange: Exchange): Promise<Reply | void> {
  const { parts, query, minor, response, signal } = exchange;
  const stream = query.flag('stream', true);
  const oneShot = minor >= 41 && query.flag('one-shot');
  if (stream && oneShot) throw new EngineError('PARAMETER_INVALID', 'cannot have stream=true and one-shot=true');
  const samples = await parts.containers.stats(param(exchange, 'name'), { stream, oneShot }, signal);
  if (!stream) {
    for await (const sample of samples) return { status: 200, json: formatStats(sample) };
    return;
  }
  response.setHeader('Content-Type', 'application/json');
  response.writeHead(200);
  response.flushHeaders();
  for await (const sample of samples) {
    await writeSlowly(response, statsText(sample), signal);
    if (signal.aborted) break;
  }
  response.end();
}
