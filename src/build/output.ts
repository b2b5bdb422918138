/** What a build prints. Source: moby v28 pkg/streamformatter; api/server/router/build for `docker build -q`. */
import type { Digest, Progress } from '../image/port.ts';

/** Of a quiet build, for when it fails: what came last. */
const KEPT_CHARACTERS_MAX = 1 << 20;

export function printed(text: string): Progress {
  return { kind: 'stream', text };
}

/** Standard error of a step, and warnings: red. */
export function printedRed(text: string): Progress {
  return printed(`\u001b[91m${text}\u001b[0m`);
}

/** Nothing but the image's ID; all that was held back when the build fails. */
export async function* quietly(build: AsyncGenerator<Progress, Digest | null>): AsyncGenerator<Progress> {
  const kept: Progress[] = [];
  let characters = 0;
  for (;;) {
    const { value, done } = await build.next();
    if (done === true) {
      if (value === null) yield* kept;
      else yield printed(`${value}\n`);
      return;
    }
    kept.push(value);
    characters += lengthOf(value);
    while (characters > KEPT_CHARACTERS_MAX && kept.length > 1) characters -= lengthOf(kept.shift()!);
  }
}

function lengthOf(progress: Progress): number {
  return progress.kind === 'stream' ? progress.text.length : 100;
}
