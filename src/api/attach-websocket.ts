/**
 * GET /containers/{name}/attach/ws: an attach in WebSocket frames, binary since 1.28. The output is not multiplexed,
 * so Docker's frame headers are taken out again. Source: moby wsContainersAttach (v28).
 */
import { once } from 'node:events';
import type { Duplex } from 'node:stream';

import { WebSocketServer, type WebSocket } from 'ws';

import { DetachScanner } from './detach-keys.ts';
import { formatLogBatch, FrameStripper } from './log-stream.ts';
import { param, type Exchange, type HijackedConnection } from './route.ts';
import { EngineError } from '../core/engine-error.ts';

const MESSAGE_BYTES_MAX = 1024 * 1024;
const sockets = new WebSocketServer({ noServer: true, maxPayload: MESSAGE_BYTES_MAX });

export async function attachWebSocket(exchange: Exchange, connection: HijackedConnection): Promise<void> {
  const { parts, query, minor } = exchange;
  if (!connection.upgrade) {
    parts.containers.resolve(param(exchange, 'name')); // moby looks for it before it looks at the protocol
    throw new EngineError('PARAMETER_INVALID', 'not websocket protocol');
  }
  const chosen = minor >= 42;
  const streams = {
    stdin: !chosen || query.flag('stdin'),
    stdout: !chosen || query.flag('stdout'),
    stderr: !chosen || query.flag('stderr'),
  };
  const gone = new AbortController();
  const signal = AbortSignal.any([gone.signal, exchange.signal]);
  const attached = await parts.containers.attach(
    param(exchange, 'name'),
    { streams, logs: query.flag('logs'), stream: query.flag('stream'), detachKeys: query.text('detachKeys') || null },
    signal,
  );
  const { socket, early } = await connection.take();
  const ws = await new Promise<WebSocket>((resolve) =>
    sockets.handleUpgrade(connection.request, socket, early, resolve),
  );
  ws.on('close', () => gone.abort());
  ws.on('error', () => gone.abort());
  const send = (data: Buffer): Promise<void> =>
    new Promise((resolve) => ws.send(minor >= 28 ? data : data.toString('utf8'), () => resolve()));
  const input: Buffer[] = [];
  let deliver = (data: Buffer): void => void input.push(data);
  ws.on('message', (data: Buffer) => deliver(Buffer.from(data)));
  try {
    if (attached.past !== null) {
      for await (const batch of attached.past)
        await send(formatLogBatch(batch, { multiplexed: false, ...streams, timestamps: false, details: false }));
    }
    const stream = await attached.stream;
    if (stream === null) return;
    const scanner = attached.detachKeys === null ? null : new DetachScanner(attached.detachKeys);
    deliver = (data) => writeInput(ws, stream, data, streams.stdin, scanner);
    input.splice(0).forEach(deliver);
    signal.addEventListener('abort', () => stream.destroy(), { once: true });
    const stripper = attached.tty ? null : new FrameStripper();
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      const data = stripper === null ? chunk : stripper.push(chunk);
      if (data.length > 0) await send(data);
    }
  } catch (error) {
    if (!signal.aborted)
      parts.logger.warn({ error, container: param(exchange, 'name') }, 'attach over websocket failed');
  } finally {
    ws.close(1000);
  }
}

function writeInput(ws: WebSocket, stream: Duplex, data: Buffer, stdin: boolean, scanner: DetachScanner | null): void {
  if (!stdin || stream.destroyed) return;
  const { pass, detached } = scanner === null ? { pass: data, detached: false } : scanner.push(data);
  if (detached) return void stream.destroy();
  if (pass.length === 0 || stream.write(pass)) return;
  ws.pause();
  void once(stream, 'drain').then(
    () => ws.resume(),
    () => ws.terminate(),
  );
}
