/** `longshore why CONTAINER`: a container's story in words, out of the daemon's journal of causes. docs/why.md shows one. */
import { EngineError } from '../core/engine-error.ts';
import { ask } from './daemon-client.ts';

const HELP = `Usage: longshore why [OPTIONS] CONTAINER

Tells what happened to a container and why, a line for each thing: by which request it was created, started and stopped,
how each run ended (code, signal, memory, health checks), what was decided then, and what comes next. A container that is
gone is remembered for a day.

  -H, --host HOST   The daemon: unix:///path or tcp://host:port; else DOCKER_HOST, else unix:///run/longshore.sock
      --json        As the API gives it (GET /containers/{id}/why)

Examples:
  longshore why web
  longshore why --json 4f5e6a | jq '.Entries[] | select(.Kind == "ended") | .Facts'
`;

/** The part of the API's answer that is shown. */
interface Story {
  readonly Id: string;
  readonly Name: string;
  readonly Status: string;
  readonly RestartPolicy: string;
  readonly Next: { readonly Text: string } | null;
  readonly Entries: readonly { readonly Time: string; readonly Text: string }[];
}

export async function whyCommand(argv: readonly string[]): Promise<number> {
  const { host, json, help, names } = parse(argv);
  if (help) {
    process.stdout.write(HELP);
    return 0;
  }
  const [name] = names;
  if (name === undefined || names.length > 1) {
    process.stderr.write(`longshore why: needs exactly one container\n\n${HELP}`);
    return 2;
  }
  const { status, text } = await ask(host, `/containers/${encodeURIComponent(name)}/why`);
  if (status !== 200) throw new EngineError('CONTAINER_NOT_FOUND', messageIn(text) ?? `the daemon answered ${status}`);
  process.stdout.write(
    json ? `${JSON.stringify(JSON.parse(text), null, 2)}\n` : formatStory(JSON.parse(text) as Story),
  );
  return 0;
}

/** Exported for its test. */
export function formatStory({
  Id: id,
  Name: name,
  Status: status,
  RestartPolicy: policy,
  Next: next,
  Entries: entries,
}: Story): string {
  const lines = [
    `${name.replace(/^\//, '')} (${id.slice(0, 12)}): ${status}${policy === '' ? '' : `, restart policy ${policy}`}`,
    '',
  ];
  for (const entry of entries) lines.push(`${localTime(entry.Time)}  ${withLocalTimes(entry.Text)}`);
  if (entries.length === 0) lines.push('Nothing is known of it: it is older than the journal.');
  lines.push('', next === null ? 'Next: nothing by itself.' : `Next: ${withLocalTimes(next.Text)}`);
  return `${lines.join('\n')}\n`;
}

/** "2026-11-22 05:38:30.123", in the reader's zone. */
export function localTime(text: string): string {
  const at = new Date(text);
  if (Number.isNaN(at.getTime())) return text;
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${day} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${String(at.getMilliseconds()).padStart(3, '0')}`;
}

function withLocalTimes(text: string): string {
  return text.replaceAll(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z/g, (time) => localTime(time));
}

function parse(argv: readonly string[]): {
  readonly host: string | null;
  readonly json: boolean;
  readonly help: boolean;
  readonly names: readonly string[];
} {
  let host: string | null = null;
  let json = false;
  let help = false;
  const names: string[] = [];
  const rest = [...argv];
  for (let word; (word = rest.shift()) !== undefined;) {
    const [flag = '', value] = word.startsWith('--') ? word.split(/=(.*)/s) : [word];
    if (flag === '--json') json = true;
    else if (flag === '--help' || flag === '-h') help = true;
    else if (flag === '--host' || flag === '-H') host = value ?? rest.shift() ?? '';
    else if (word.startsWith('-'))
      throw new EngineError('PARAMETER_INVALID', `unknown flag: ${word} (see longshore why --help)`);
    else names.push(word);
  }
  return { host, json, help, names };
}

function messageIn(text: string): string | null {
  try {
    const { message } = JSON.parse(text) as { message?: unknown };
    return typeof message === 'string' ? message : null;
  } catch {
    return null;
  }
}
