/** `docker attach`. Source: moby daemon/attach.go, moby/term proxy (v28). */
import type { Duplex } from 'node:stream';

import { EngineError } from '../core/engine-error.ts';
import { pausedBeforeAttach } from '../lifecycle/words.ts';
import type { LogEntry } from '../log/port.ts';
import { parseDetachKeys } from './detach-keys.ts';
import { publishEvent } from './events.ts';
import { readableLogOf } from './logs.ts';
import type { Parts } from './parts.ts';
import type { Containers } from './port.ts';
import { refused } from './refused.ts';
import { statusOf } from './status.ts';

type Attachment = Awaited<ReturnType<Containers['attach']>>;

export async function attach(
  parts: Parts,
  ref: string,
  options: Parameters<Containers['attach']>[1],
  signal: AbortSignal,
): Promise<Attachment> {
  const detachKeys = parseDetachKeys(options.detachKeys);
  const container = parts.resolver.resolve(ref);
  if (statusOf(container) === 'paused') throw refused(pausedBeforeAttach(ref));
  if (statusOf(container) === 'restarting') {
    const message = `container ${ref} is restarting, wait until the container is running`;
    throw new EngineError('CONTAINER_RESTARTING', message);
  }
  const { process } = container.spec;
  let past: AsyncIterable<LogEntry[]> | null = null;
  if (options.logs) {
    const file = readableLogOf(parts, container);
    const { stdout, stderr } = options.streams;
    const read = { stdout, stderr, sinceNs: null, untilNs: null, tail: null, follow: false };
    past = parts.readLog(file, read, { signal, ended: AbortSignal.abort() });
  }
  publishEvent(parts, container, 'attach');
  let stream: Promise<Duplex | null> | null = null;
  if (options.stream) {
    // stdin of a container that was made without one is not an error: what is sent goes nowhere.
    const streams = { ...options.streams, stdin: options.streams.stdin && process.openStdin };
    // Nothing to copy: over at once, as in moby, also when the container does not run yet.
    const isEmpty = !streams.stdin && !streams.stdout && !streams.stderr;
    if (!isEmpty) ({ stream } = await parts.supervisor.attach(container.id, streams, signal));
  }
  return {
    tty: process.tty,
    past,
    stream,
    detachKeys: detachKeysFor(detachKeys, process.tty && options.streams.stdin),
  };
}

/** Only a terminal's stdin is watched for the keys that detach. */
function detachKeysFor(keys: Buffer, watched: boolean): Buffer | null {
  return watched ? keys : null;
}
