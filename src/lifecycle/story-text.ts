/** A container's story in words: a line for each entry, without its time, and what comes next. Pure. */
import { signalName } from '../core/signal.ts';
import { unreachable } from '../core/unreachable.ts';
import type { Container, Timestamp } from './container.ts';
import { secondsText, SIGKILL } from './state.ts';
import type { Happened, StoryEntry, Decision } from './story.ts';

/** One line; `time` shows a moment as the reader wants it. */
export function storyText({ what, cause }: StoryEntry, time: (at: Timestamp) => string): string {
  return wordsOf(what, cause.detail, time)
    .replaceAll(/\s*\n\s*/g, ' / ')
    .trim();
}

/** What is due, and when (null: nobody knows); null: nothing will happen by itself. */
export function nextText(
  container: Container,
  time: (at: Timestamp) => string,
): { readonly text: string; readonly at: Timestamp | null } | null {
  const { state, restartCount, spec } = container;
  const of = spec.host.restartPolicy.maximumRetryCount;
  switch (state.at) {
    case 'restarting':
      return {
        text: `restart due at ${time(state.dueAt)} (attempt ${restartCount}${of > 0 ? ` of ${of}` : ''})`,
        at: state.dueAt,
      };
    case 'starting':
      return {
        text: state.next === undefined ? 'it is being started' : 'it is being started, and stopped as soon as it runs',
        at: null,
      };
    case 'stopping':
      if (state.phase === 'killed')
        return { text: `SIGKILL was sent; process ${state.pid} is waited for, and killed again every 10 s`, at: null };
      if (state.killAt === null)
        return { text: `a stop signal was sent; process ${state.pid} is waited for without a deadline`, at: null };
      return {
        text: `a stop signal was sent; SIGKILL follows at ${state.killAt === undefined ? '?' : time(state.killAt)}`,
        at: state.killAt ?? null,
      };
    case 'removing':
      return { text: 'it is being removed', at: null };
    case 'dead':
      return { text: `its removal failed (${state.why}); docker rm tries again`, at: null };
    case 'created':
    case 'running':
    case 'paused':
    case 'exited':
      return null;
    default:
      return unreachable(state);
  }
}

// One case for each thing that happens; long because there are many.
function wordsOf(what: Happened, cause: string, time: (at: Timestamp) => string): string {
  const by = cause === '' ? '' : ` by ${cause}`;
  switch (what.kind) {
    case 'created':
      return `created${by}: ${what.name}, image ${what.image}, restart policy ${what.policy}`;
    case 'asked':
      return askedText(what, time) + by;
    case 'daemon':
      return { start: `start: ${cause}`, stop: 'stop: the daemon ends', remove: 'removal: the daemon came up' }[
        what.does
      ];
    case 'started':
      return `started, pid ${what.pid}${what.byPolicy && what.attempt > 0 ? ` (restart ${what.attempt} by the policy)` : ''}`;
    case 'start-failed':
      return `the start failed with code ${what.code}: ${what.message}; ${decisionText(what.decision)}`;
    case 'ended':
      return endText(what);
    case 'oom':
      return `out of memory: the kernel killed a process; ${memoryText(what)}`;
    case 'health':
      return healthText(what);
    case 'timeout':
      return 'it did not stop in time: SIGKILL';
    case 'stuck':
      return what.pid === null ? 'this takes long; it goes on' : `process ${what.pid} is still there after SIGKILL`;
    case 'paused':
      return 'paused';
    case 'resumed':
      return 'resumed';
    case 'destroyed':
      return 'removed';
    case 'destroy-failed':
      return `the removal failed: ${what.message}`;
    case 'found':
      return foundText(what);
    default:
      return unreachable(what);
  }
}

function askedText(
  { for: asked, signal, killAt, name }: Extract<Happened, { kind: 'asked' }>,
  time: (at: Timestamp) => string,
): string {
  const sent = signal === undefined ? '' : ` (${signalName(signal)}${deadlineText(killAt, time)})`;
  return (
    { rename: `rename to ${name ?? ''}`, remove: 'removal', change: 'change of the record' }[asked as string] ??
    `${asked}${sent}`
  );
}

function deadlineText(killAt: Timestamp | null | undefined, time: (at: Timestamp) => string): string {
  if (killAt === undefined) return '';
  return killAt === null ? ', no deadline' : `, SIGKILL at ${time(killAt)}`;
}

function endText({
  pid,
  code,
  signal,
  oomKilled,
  runMs,
  health,
  decision,
}: Extract<Happened, { kind: 'ended' }>): string {
  const by = signal > 0 ? ` by ${signalName(signal)}` : code === 128 + SIGKILL ? ' by SIGKILL' : '';
  const oom = oomKilled ? ', out of memory' : '';
  const sick = health?.status === 'unhealthy' ? `, unhealthy (${health.failingStreak} probes failed in a row)` : '';
  return `ended with code ${code}${by}${oom}${sick} after ${secondsText(runMs)}${pid > 0 ? ` (pid ${pid})` : ''}; ${decisionText(decision)}`;
}

function decisionText(decision: Decision): string {
  switch (decision.kind) {
    case 'restart':
      return `the policy restarts it in ${secondsText(decision.delayMs)} (attempt ${decision.attempt}${decision.of > 0 ? ` of ${decision.of}` : ''})`;
    case 'start':
      return 'it is started again, as asked';
    case 'remove':
      return 'it is removed';
    case 'stay':
      return stayText(decision);
    default:
      return unreachable(decision);
  }
}

function stayText({ policy, because }: Extract<Decision, { kind: 'stay' }>): string {
  switch (because) {
    case 'asked':
      return 'it stays down: a stop was asked for';
    case 'policy':
      return `it stays down: restart policy ${policy}`;
    case 'clean-exit':
      return `it stays down: restart policy ${policy}, and code 0 is no failure`;
    case 'retries-used':
      return `it stays down: restart policy ${policy}, and all retries are used`;
    case 'daemon':
      return `it stays down until the daemon is back: restart policy ${policy}`;
    default:
      return unreachable(because);
  }
}

function memoryText({ limitBytes, usedBytes }: Extract<Happened, { kind: 'oom' }>): string {
  const limit = limitBytes === null ? 'no limit of its own, so the host ran out' : `limit ${sizeText(limitBytes)}`;
  return usedBytes === null ? limit : `${limit}, used at most ${sizeText(usedBytes)}`;
}

function healthText({ status, failingStreak, exitCode, output }: Extract<Happened, { kind: 'health' }>): string {
  const said = output.trim() === '' ? '' : `: ${output.trim()}`;
  const streak = failingStreak > 1 ? ` ${failingStreak} times in a row` : '';
  return status === 'healthy'
    ? 'healthy'
    : `${status}: the health check failed${streak}, last with code ${exitCode}${said}`;
}

function foundText({ finding, because, boot }: Extract<Happened, { kind: 'found' }>): string {
  const who = boot ? 'the daemon came up' : 'no report came, so the daemon looked';
  switch (finding) {
    case 'running':
      return `${who}: it runs on`;
    case 'exited':
      return `${who}: it has ended meanwhile`;
    case 'never-started':
      return `${who}: the start had not come to a process`;
    case 'lost':
      return `${who}: ${because === 'reboot' ? 'the host was restarted' : 'its monitor died, so how it ended is not known'}`;
    case 'none':
      return who;
    default:
      return unreachable(finding);
  }
}

/** "64 MiB" */
export function sizeText(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit++) value /= 1024;
  return `${Number(value.toFixed(value < 10 ? 1 : 0))} ${units[unit]}`;
}
