/** Further processes in a container. Source: moby api/server/router/container/exec.go (v28). */
import { EngineError, messageOf } from '../../core/engine-error.ts';
import { readJsonBody } from '../body.ts';
import { readHijackJson, writeHead } from '../hijack.ts';
import { frame, FrameStripper } from '../log-stream.ts';
import { sendReply } from '../reply.ts';
import { param, type AnyRoute, type Exchange, type HijackedConnection, type Reply } from '../route.ts';
import { ClientSide, splice } from '../splice.ts';
import { decodeBody } from '../wire/decode.ts';
import { execCreateRequest, execStartRequest, formatExecInspect, parseExecCreate } from '../wire/exec.ts';
import { MULTIPLEXED_STREAM, RAW_STREAM } from './container-streams.ts';

export const execRoutes: readonly AnyRoute[] = [
  { method: 'POST', path: '/containers/{name}/exec', handle: createExec },
  { method: 'GET', path: '/exec/{id}/json', handle: inspectExec },
  { method: 'POST', path: '/exec/{id}/start', hijack: startExec },
  { method: 'POST', path: '/exec/{id}/resize', handle: resizeExec },
];

/** A process that only closed its output is not waited for any longer. */
const RECORDED_MS_MAX = 250;

async function createExec(exchange: Exchange): Promise<Reply> {
  const body = await readJsonBody(exchange.request);
  const asked = body.absent ? execCreateRequest.zero : decodeBody(body.text, execCreateRequest);
  const config = parseExecCreate(asked, exchange.minor);
  const id = await exchange.parts.containers.execCreate(param(exchange, 'name'), config, exchange.by);
  return { status: 201, json: { Id: id } };
}

function inspectExec(exchange: Exchange): Reply {
  return { status: 200, json: formatExecInspect(exchange.parts.containers.execInspect(param(exchange, 'id'))) };
}

async function resizeExec(exchange: Exchange): Promise<Reply> {
  const rows = exchange.query.size('h', 'height');
  const columns = exchange.query.size('w', 'width');
  await exchange.parts.containers.execResize(param(exchange, 'id'), rows, columns);
  return { status: 200 };
}

async function startExec(exchange: Exchange, connection: HijackedConnection): Promise<void> {
  const { parts, minor, response } = exchange;
  const id = param(exchange, 'id');
  const text = await readHijackJson(connection);
  const asked = text === '' ? execStartRequest.zero : decodeBody(text, execStartRequest);
  const { exec } = parts.containers.execInspect(id);
  const consoleSize = minor >= 42 && asked.Tty ? asked.ConsoleSize : null;
  const start = (): ReturnType<typeof parts.containers.execStart> =>
    parts.containers.execStart(id, { detach: asked.Detach, tty: asked.Tty, consoleSize });

  if (asked.Detach) {
    await start();
    if (!connection.upgrade) return sendReply(response, { status: 200 });
    const { socket } = await connection.take();
    writeHead(socket, 200, { 'Content-Length': '0', Connection: 'close' });
    socket.end();
    return;
  }

  // The head goes out before the start, as moby's does: clients like docker-py lose what comes along with the head.
  parts.containers.execCheck(id);
  const { socket, early } = await connection.take();
  // At once: what the client sends before the process runs would fall on the floor of a flowing socket.
  const client = new ClientSide(socket, early);
  if (connection.upgrade) {
    const multiplexed = !asked.Tty && minor >= 42;
    writeHead(socket, 101, {
      'Content-Type': multiplexed ? MULTIPLEXED_STREAM : RAW_STREAM,
      Connection: 'Upgrade',
      Upgrade: 'tcp',
      ...connection.headers,
    });
  } else {
    writeHead(socket, 200, { 'Content-Type': RAW_STREAM, ...connection.headers });
  }
  let started: Awaited<ReturnType<typeof start>> | null = null;
  let failure: unknown = null;
  try {
    started = await start();
  } catch (error) {
    failure = error;
    if (!(error instanceof EngineError)) parts.logger.error({ error, exec: id }, 'an exec could not be started');
  }
  if (failure !== null) {
    const line = Buffer.from(`${messageOf(failure)}\r\n`);
    await client.write(asked.Tty ? line : frame('stdout', line));
  } else if (started?.stream) {
    const end = await splice(client, started.stream, {
      stdin: exec.config.attachStdin,
      detachKeys: started.detachKeys,
      convert: conversion(started.tty, asked.Tty),
    });
    if (end === 'detached') publishDetach(parts, exec);
    else await recorded(started.ended);
    return client.finish({ linger: end !== 'detached' });
  }
  client.finish();
}

/**
 * The end of the output and the exit code come by different ways. Clients ask for the code as soon as their connection
 * ends, so it ends when the code is there.
 */
async function recorded(ended: Promise<unknown>): Promise<void> {
  const late = Promise.withResolvers<void>();
  const timer = setTimeout(late.resolve, RECORDED_MS_MAX);
  await Promise.race([ended, late.promise]);
  clearTimeout(timer);
}

/** moby frames by what the start request says of a terminal, whatever the exec was made with; clients rely on it. */
function conversion(tty: boolean, askedTty: boolean): ((chunk: Buffer) => Buffer) | null {
  if (tty === askedTty) return null;
  if (tty) return (chunk) => frame('stdout', chunk);
  const stripper = new FrameStripper();
  return (chunk) => stripper.push(chunk);
}

function publishDetach(parts: Exchange['parts'], exec: { readonly id: string; readonly containerId: string }): void {
  try {
    const { id, name, spec } = parts.containers.resolve(exec.containerId);
    const attributes = { ...spec.process.labels, execID: exec.id, image: spec.process.image, name };
    parts.events.publish({ type: 'container', action: 'exec_detach', actor: { id, attributes } });
  } catch {
    // It was removed in the meantime: nothing to say about it any more.
  }
}
