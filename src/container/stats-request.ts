/** What one client of `docker stats` is sent. Source: moby daemon/stats.go ContainerStats (v28). */
import type { Container } from '../lifecycle/container.ts';
import type { Parts } from './parts.ts';
import type { StatsSample } from './port.ts';
import { emptySample } from './stats.ts';
import { liveOf } from './status.ts';
import { ZERO_TIME } from '../core/clock.ts';

/**
 * A stream sends the first sample at once, with nothing before it. Without a stream there is one sample that has one
 * before it, a second after the request; `oneShot` does not wait for that.
 */
export async function* watchStats(
  parts: Parts,
  container: Container,
  options: { readonly stream: boolean; readonly oneShot: boolean },
  signal: AbortSignal,
): AsyncGenerator<StatsSample> {
  if (options.stream) {
    yield* parts.stats.watch(container.id, signal);
    return;
  }
  if (liveOf(container) === null) {
    yield emptySample(container);
    return;
  }
  if (options.oneShot) {
    yield await parts.stats.once(container);
    return;
  }
  for await (const sample of parts.stats.watch(container.id, signal)) {
    // One without a process has none before it either: it ended while we waited.
    if (sample.preRead === ZERO_TIME && sample.cpu !== null) continue;
    yield sample;
    return;
  }
}
