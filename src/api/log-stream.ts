/**
 * Log entries as Docker streams them: raw for a terminal, else in frames of an 8 byte header (stream, length) each.
 * Source: moby pkg/stdcopy, api/server/httputils/write_log_stream.go (v28).
 */
import type { LogEntry } from '../log/port.ts';

const HEADER_BYTES = 8;
const STREAM_IDS = { stdin: 0, stdout: 1, stderr: 2, systemerr: 3 } as const;

const NOTHING = Buffer.alloc(0);

export interface LogFormat {
  readonly multiplexed: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  readonly timestamps: boolean;
  readonly details: boolean;
}

export function frame(stream: keyof typeof STREAM_IDS, payload: Buffer): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header[0] = STREAM_IDS[stream];
  header.writeUInt32BE(payload.length, 4);
  return Buffer.concat([header, payload]);
}

/** Takes the headers of frames out again, however they are cut up. */
export class FrameStripper {
  #header: Buffer = NOTHING;
  #payloadLeftBytes = 0;

  push(chunk: Buffer): Buffer {
    const payloads: Buffer[] = [];
    for (let rest = chunk; rest.length > 0;) {
      if (this.#payloadLeftBytes > 0) {
        const payload = rest.subarray(0, this.#payloadLeftBytes);
        payloads.push(payload);
        this.#payloadLeftBytes -= payload.length;
        rest = rest.subarray(payload.length);
        continue;
      }
      const missing = HEADER_BYTES - this.#header.length;
      this.#header = Buffer.concat([this.#header, rest.subarray(0, missing)]);
      rest = rest.subarray(missing);
      if (this.#header.length < HEADER_BYTES) break;
      this.#payloadLeftBytes = this.#header.readUInt32BE(4);
      this.#header = NOTHING;
    }
    return Buffer.concat(payloads);
  }
}

/** One buffer for the whole batch, so that it is one write. */
export function formatLogBatch(entries: readonly LogEntry[], format: LogFormat): Buffer {
  const parts: Buffer[] = [];
  for (const entry of entries) {
    if (entry.stream === 'stdout' ? !format.stdout : !format.stderr) continue;
    const prefix = formatPrefix(entry, format);
    if (format.multiplexed) {
      const header = Buffer.alloc(HEADER_BYTES);
      header[0] = STREAM_IDS[entry.stream];
      header.writeUInt32BE(prefix.length + entry.line.length, 4);
      parts.push(header);
    }
    if (prefix.length > 0) parts.push(prefix);
    parts.push(entry.line);
  }
  return Buffer.concat(parts);
}

function formatPrefix(entry: LogEntry, format: LogFormat): Buffer {
  if (!format.timestamps && !format.details) return NOTHING;
  const time = format.timestamps ? `${padTime(entry.time)} ` : '';
  return Buffer.from(format.details ? `${time}${formatAttributes(entry.attributes)} ` : time);
}

/** Always nine digits, so that lines stay aligned. */
function padTime(time: string): string {
  const match = /^(.{19})(?:\.(\d+))?(Z|[-+]\d\d:\d\d)$/.exec(time);
  return match === null ? time : `${match[1]}.${(match[2] ?? '').padEnd(9, '0')}${match[3]}`;
}

function formatAttributes(attributes: Readonly<Record<string, string>>): string {
  return Object.keys(attributes)
    .toSorted()
    .map((key) => `${queryEscape(key)}=${queryEscape(attributes[key]!)}`)
    .join(',');
}

/** Go's url.QueryEscape. */
function queryEscape(text: string): string {
  return encodeURIComponent(text)
    .replace(/%20/g, '+')
    .replace(/[!'()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`);
}
