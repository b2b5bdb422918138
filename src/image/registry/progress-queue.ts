/** Joins the progress of tasks that run side by side into one stream, bounded: figures of the same layer replace each other. */
import type { Progress } from '../port.ts';

/** As often as Docker. */
const FIGURES_MS = 100;

export type Report = (line: Progress) => void;

/** Runs `task` and yields what it reports; stopping to read aborts it. Throws what it throws, after the last report. */
export async function* withProgress(
  signal: AbortSignal,
  task: (report: Report, signal: AbortSignal) => Promise<void>,
): AsyncGenerator<Progress> {
  const stop = new AbortController();
  const lines: Progress[] = [];
  let wake = (): void => {};
  let isDone = false;
  const report: Report = (line) => {
    const last =
      line.kind === 'status' && line.current !== undefined ? lines.findIndex((other) => isSame(other, line)) : -1;
    if (last === -1) lines.push(line);
    else lines[last] = line;
    wake();
  };
  const finished = task(report, AbortSignal.any([signal, stop.signal])).finally(() => {
    isDone = true;
    wake();
  });
  finished.catch(() => {}); // awaited below
  try {
    for (;;) {
      for (let line; (line = lines.shift()) !== undefined;) yield line;
      if (isDone) break;
      await new Promise<void>((resolve) => (wake = resolve));
    }
    await finished;
  } finally {
    stop.abort(new Error('canceled'));
    await finished.catch(() => {});
  }
}

/** Reports `current` of `total` under one text, at most every 100 ms, the first and the last always. */
export function figures(
  report: Report,
  id: string | undefined,
  text: string,
  total: number,
): (current: number) => void {
  let lastMs = -Infinity;
  return (current) => {
    const nowMs = performance.now();
    if (nowMs - lastMs < FIGURES_MS && (current < total || total === 0)) return;
    lastMs = nowMs;
    report({ kind: 'status', ...(id !== undefined && { id }), text, current, total });
  };
}

function isSame(a: Progress, b: Progress): boolean {
  return a.kind === 'status' && b.kind === 'status' && a.id === b.id && a.text === b.text && a.current !== undefined;
}
