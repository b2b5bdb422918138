/** One line of a progress stream. Source: moby pkg/jsonmessage, pkg/streamformatter (v28). */
import { messageOf } from '../../core/engine-error.ts';
import type { Progress } from '../../image/port.ts';

const BAR_WIDTH = 50;

export function formatProgress(progress: Progress): string {
  switch (progress.kind) {
    case 'stream':
      return line({ stream: progress.text });
    case 'aux':
      return line({ progressDetail: progress.ofProgress === true ? {} : undefined, aux: progress.value });
    case 'error':
      return formatError(progress.message, progress.code);
    case 'status':
      return line(formatStatus(progress));
  }
}

/** `code`: of a command in a build that failed, which the CLI ends with. */
export function formatError(error: unknown, code?: number): string {
  const message = typeof error === 'string' ? error : messageOf(error);
  return line({ errorDetail: { code, message }, error: message });
}

function formatStatus({ id, text, current, total }: Extract<Progress, { kind: 'status' }>): object {
  const counted = current !== undefined && (current > 0 || (total ?? 0) > 0);
  // Lines of layers have a (maybe empty) progressDetail, which is how clients tell them from headings.
  const ofLayer = id !== undefined && !text.startsWith('Pulling from');
  return {
    status: text,
    progressDetail: counted ? { current: current || undefined, total: total || undefined } : ofLayer ? {} : undefined,
    progress: counted ? bar(current, total ?? 0) : undefined,
    id,
  };
}

/** "[==>    ]  1.5MB/6MB", as jsonmessage's for a wide terminal. */
function bar(current: number, total: number): string {
  if (total <= 0) return humanSize(current).padStart(8);
  const filled = Math.min(BAR_WIDTH, Math.floor(Math.trunc((current / total) * 100) / 2));
  const counts =
    current > total ? humanSize(current).padStart(8) : `${humanSize(current).padStart(8)}/${humanSize(total)}`;
  return `[${'='.repeat(filled)}>${' '.repeat(BAR_WIDTH - filled)}] ${counts}`;
}

/** go-units HumanSize: four significant digits, powers of 1000. */
function humanSize(bytes: number): string {
  let size = bytes;
  let unit = 0;
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000;
    unit++;
  }
  return `${Number(size.toPrecision(4))}${units[unit]!}`;
}

/** jsonmessage ends its lines as HTTP chunks of old did. */
function line(value: object): string {
  return `${JSON.stringify(value)}\r\n`;
}
