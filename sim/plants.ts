/**
 * Bugs to plant, one for each thing that a checker must see: a checker that was never seen to fail proves nothing.
 * docs/testing.md has the table; test/simulation/plants.test.ts holds both together.
 */
import type { Container, Exit } from '../src/lifecycle/container.ts';
import type { Effect, Event, Step } from '../src/lifecycle/event.ts';
import { transition } from '../src/lifecycle/transition.ts';
import type { Plant } from './world.ts';

export interface NamedPlant extends Plant {
  /** The rule that must be violated, as Violation.rule; several where the seed decides which is seen first. */
  readonly caughtBy: readonly string[];
  readonly what: string;
}

type Change = (container: Container, event: Event, nowNs: bigint) => Step;

/** The real transition, of which some effects get lost. */
function without(isLost: (effect: Effect, event: Event, before: Container) => boolean): Change {
  return (container, event, nowNs) => {
    const step = transition(container, event, nowNs);
    return { ...step, effects: step.effects.filter((effect) => !isLost(effect, event, container)) };
  };
}

/** The real transition, told something else. */
function told(change: (event: Event, container: Container) => Event): Change {
  return (container, event, nowNs) => transition(container, change(event, container), nowNs);
}

/** The real transition, with another outcome. */
function turned(change: (after: Container, event: Event, before: Container) => Container): Change {
  return (container, event, nowNs) => {
    const step = transition(container, event, nowNs);
    return step.container === container ? step : { ...step, container: change(step.container, event, container) };
  };
}

function isEnd(event: Event): event is Extract<Event, { kind: 'exited' }> {
  return event.kind === 'exited';
}

export const PLANTS: readonly NamedPlant[] = [
  {
    name: 'run-not-checked',
    what: 'the end of an earlier run is taken for the end of this one',
    caughtBy: ['exits', 'one process', 'release'],
    transition: told((event, { run, state }) =>
      isEnd(event) && 'pid' in state ? { ...event, run, pid: state.pid } : event,
    ),
  },
  {
    name: 'end-not-told',
    what: 'the journal of causes does not tell of an end that the policy answers, where there are health checks',
    caughtBy: ['story'],
    hidesStory: ({ what, cause }) => what.kind === 'ended' && cause.actor === 'policy' && what.health !== null,
  },
  {
    name: 'end-counted-twice',
    what: 'an end that is reported twice is published twice',
    caughtBy: ['events'],
    transition: (container, event, nowNs) => {
      const step = transition(container, event, nowNs);
      const again = isEnd(event) && event.run === container.run && container.state.at === 'exited';
      return again ? { ...step, effects: [{ kind: 'publish', action: 'die', attributes: {} }] } : step;
    },
  },
  {
    name: 'early-end-lost',
    what: 'an end that is reported before the start is forgotten',
    caughtBy: ['rest', 'answers'],
    transition: (container, event, nowNs) =>
      isEnd(event) && container.state.at === 'starting'
        ? { container, effects: [] }
        : transition(container, event, nowNs),
  },
  {
    name: 'exit-code-cut',
    what: 'only seven bits of the exit code are kept',
    caughtBy: ['exits'],
    transition: told((event) =>
      isEnd(event) ? { ...event, exit: { ...event.exit, code: event.exit.code & 127 } } : event,
    ),
  },
  {
    name: 'exit-time-is-now',
    what: 'the time of an end is the time of its report',
    caughtBy: ['exits'],
    transition: (container, event, nowNs) => {
      if (!isEnd(event)) return transition(container, event, nowNs);
      const exit: Exit = { ...event.exit, at: new Date(Number(nowNs / 1_000_000n)).toISOString() };
      return transition(container, { ...event, exit }, nowNs);
    },
  },
  {
    name: 'found-end-lost',
    what: 'an end while the daemon was dead is taken for an unknown one',
    caughtBy: ['exits'],
    transition: told((event) =>
      event.kind === 'found' && event.finding.at === 'exited'
        ? { ...event, finding: { at: 'lost', because: 'shim-died' } }
        : event,
    ),
  },
  {
    name: 'found-running-as-lost',
    what: 'a process that outlived the daemon is given up',
    caughtBy: ['exits', 'release', 'one process'],
    transition: told((event) =>
      event.kind === 'found' && event.finding.at === 'running'
        ? { ...event, finding: { at: 'lost', because: 'shim-died' } }
        : event,
    ),
  },
  {
    name: 'stop-keeps-intent',
    what: 'a stop does not say that it is not wanted any more',
    caughtBy: ['policy', 'stop wins', 'durable intent'],
    transition: turned((after, event, before) =>
      event.kind === 'stop-requested' ? { ...after, intent: before.intent } : after,
    ),
  },
  {
    name: 'restart-not-called-off',
    what: 'a stop leaves the timer of a waiting restart, and the timer does not look',
    caughtBy: ['stop wins'],
    transition: (container, event, nowNs) => {
      if (event.kind === 'restart-due' && container.state.at === 'exited') {
        const { exit } = container.state;
        return transition({ ...container, state: { at: 'restarting', exit, dueAt: exit.finishedAt } }, event, nowNs);
      }
      return without((effect) => effect.kind === 'clear-timer' && effect.timer === 'restart-due')(
        container,
        event,
        nowNs,
      );
    },
  },
  {
    name: 'stop-forgotten-in-start',
    what: 'a stop that comes before the pid is forgotten',
    caughtBy: ['answers', 'rest'],
    transition: turned((after, event) => {
      if (event.kind !== 'stop-requested' || after.state.at !== 'starting') return after;
      const { next: _, ...state } = after.state;
      return { ...after, state };
    }),
  },
  {
    name: 'no-sigkill',
    what: 'the timeout of a stop is never set',
    caughtBy: ['answers', 'rest'],
    transition: without((effect) => effect.kind === 'set-timer' && effect.timer === 'kill-due'),
  },
  {
    name: 'no-stuck-deadline',
    what: 'nobody is told that a process does not go away',
    caughtBy: ['answers', 'rest'],
    transition: (container, event, nowNs) => {
      if (event.kind === 'signal-missed') return { container, effects: [] };
      return without((effect) => effect.kind === 'set-timer' && effect.timer === 'stuck-due')(container, event, nowNs);
    },
  },
  {
    name: 'no-thaw',
    what: 'a paused container is stopped without being thawed',
    caughtBy: ['answers', 'rest', 'leak'],
    transition: without((effect, event) => effect.kind === 'resume-process' && event.kind !== 'unpause-requested'),
  },
  {
    name: 'no-release',
    what: 'what a run acquired is not given back',
    caughtBy: ['leak', 'release', 'one process', 'removal'],
    transition: without((effect) => effect.kind === 'release'),
  },
  {
    name: 'no-release-at-boot',
    what: 'a release that a crash cut short is not taken up again',
    caughtBy: ['leak', 'release', 'one process', 'removal'],
    transition: without((effect, event) => effect.kind === 'release' && event.kind === 'found'),
  },
  {
    name: 'removal-forgets',
    what: 'a forced removal ends with the process',
    caughtBy: ['removal', 'answers', 'rest', 'leak'],
    transition: without((effect, event) => effect.kind === 'destroy' && isEnd(event)),
  },
  {
    name: 'removal-not-resumed',
    what: 'a removal that a crash cut short is not taken up again',
    caughtBy: ['rest', 'leak'],
    transition: without((effect, event) => effect.kind === 'destroy' && event.kind === 'found'),
  },
  {
    name: 'auto-remove-ignored',
    what: '--rm leaves the container',
    caughtBy: ['auto-remove', 'answers', 'rest'],
    transition: (container, event, nowNs) => {
      if (!isEnd(event) || !container.spec.host.autoRemove) return transition(container, event, nowNs);
      const host = { ...container.spec.host, autoRemove: false };
      const step = transition({ ...container, spec: { ...container.spec, host } }, event, nowNs);
      return { ...step, container: { ...step.container, spec: container.spec } };
    },
  },
  {
    name: 'no-backoff',
    what: 'each restart waits 100 ms',
    caughtBy: ['backoff'],
    transition: (container, event, nowNs) => transition({ ...container, lastDelayMs: 0 }, event, nowNs),
  },
  {
    name: 'one-retry-too-many',
    what: 'on-failure:N restarts once more',
    caughtBy: ['policy'],
    transition: (container, event, nowNs) => {
      const { restartPolicy } = container.spec.host;
      if (!isEnd(event) || restartPolicy.maximumRetryCount === 0) return transition(container, event, nowNs);
      const more = { ...restartPolicy, maximumRetryCount: restartPolicy.maximumRetryCount + 1 };
      const host = { ...container.spec.host, restartPolicy: more };
      const step = transition({ ...container, spec: { ...container.spec, host } }, event, nowNs);
      return { ...step, container: { ...step.container, spec: container.spec } };
    },
  },
  {
    name: 'clean-exit-restarts',
    what: 'on-failure restarts after exit code 0',
    caughtBy: ['policy', 'exits'],
    transition: (container, event, nowNs) => {
      if (!isEnd(event) || event.exit.code !== 0) return transition(container, event, nowNs);
      const step = transition(container, { ...event, exit: { ...event.exit, code: 1 } }, nowNs);
      const { state } = step.container;
      if (state.at !== 'restarting' && state.at !== 'exited') return step;
      return { ...step, container: { ...step.container, state: { ...state, exit: { ...state.exit, code: 0 } } } };
    },
  },
  {
    name: 'always-stays-down',
    what: 'a start by the policy that fails is the last',
    caughtBy: ['policy', 'rest'],
    transition: (container, event, nowNs) => {
      const { state } = container;
      if (event.kind !== 'start-failed' || state.at !== 'starting' || !state.byPolicy)
        return transition(container, event, nowNs);
      return transition({ ...container, state: { ...state, byPolicy: false } }, event, nowNs);
    },
  },
  {
    name: 'boot-starts-stopped',
    what: 'unless-stopped comes up with the daemon although it was stopped',
    caughtBy: ['stop wins'],
    transition: (container, event, nowNs) => {
      if (event.kind !== 'found') return transition(container, event, nowNs);
      return transition({ ...container, intent: { ...container.intent, stoppedByUser: false } }, event, nowNs);
    },
  },
  {
    name: 'answer-forgotten',
    what: 'those that wait for a stop are not answered',
    caughtBy: ['answers'],
    transition: without((effect) => effect.kind === 'settle' && effect.until === 'stopped'),
  },
  {
    name: 'start-without-die',
    what: 'an end is not published',
    caughtBy: ['events'],
    transition: without((effect, event) => effect.kind === 'publish' && effect.action === 'die' && isEnd(event)),
  },
  {
    name: 'stop-before-die',
    what: 'stop is published before die',
    caughtBy: ['events'],
    transition: (container, event, nowNs) => {
      const step = transition(container, event, nowNs);
      const stops = step.effects.some((effect) => effect.kind === 'publish' && effect.action === 'stop');
      if (!stops || !isEnd(event)) return step;
      return { ...step, effects: [...step.effects].sort((a, b) => rank(a) - rank(b)) };
    },
  },
  {
    name: 'probes-of-the-dead',
    what: 'the probes of a daemon that was killed are not ended',
    caughtBy: ['probes'],
    hidesExecs: true,
  },
  {
    name: 'run-not-saved',
    what: 'a start is not on disk before it begins',
    caughtBy: ['edges', 'runs', 'one process', 'durable intent', 'rest', 'leak', 'release'],
    dropsWrite: ({ state }) => state.at === 'starting',
  },
  {
    name: 'stop-not-saved',
    what: 'a stop is not on disk before it begins',
    caughtBy: ['durable intent', 'edges'],
    dropsWrite: ({ state, intent }) => state.at === 'stopping' && intent.wanted === 'stop',
  },
];

function rank(effect: Effect): number {
  if (effect.kind !== 'publish') return 2;
  return effect.action === 'stop' ? 0 : 1;
}
