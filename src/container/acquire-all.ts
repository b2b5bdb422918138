/** Acquisitions that do not depend on each other, made at the same time and given back in order. */

/** What to do when it is no longer needed. */
export type Undo = () => Promise<void>;

/**
 * Waits for all of them, also when one fails: only then is it known what is to be undone. The undo of each that worked
 * is pushed in the order of `acquisitions`, and the first error thrown.
 */
export async function acquireAll(
  stack: AsyncDisposableStack,
  acquisitions: readonly (() => Promise<Undo>)[],
): Promise<void> {
  const results = await Promise.allSettled(acquisitions.map((acquire) => acquire()));
  for (const result of results) if (result.status === 'fulfilled') stack.defer(result.value);
  const failed = results.find((result) => result.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
}

/** All are tried, whatever happens to the others; the first error is thrown at the end. */
export async function releaseAll(releases: readonly (() => Promise<unknown>)[]): Promise<void> {
  let failure: { readonly error: unknown } | null = null;
  for (const release of releases) {
    try {
      await release(); // oxlint-disable-line no-await-in-loop
    } catch (error) {
      failure ??= { error };
    }
  }
  if (failure !== null) throw failure.error;
}
