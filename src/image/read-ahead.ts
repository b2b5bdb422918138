/** Starts work on the next items while the first is being used; hands the results out in order. */
export async function* readAhead<Item, Result>(
  items: AsyncIterable<Item> | Iterable<Item>,
  start: (item: Item) => Promise<Result>,
  countMax: number,
): AsyncGenerator<Result> {
  const started: Promise<Result>[] = [];
  try {
    for await (const item of items) {
      const result = start(item);
      result.catch(() => {}); // awaited in its turn
      started.push(result);
      if (started.length >= countMax) yield await started.shift()!;
    }
    while (started.length > 0) yield await started.shift()!;
  } finally {
    await Promise.allSettled(started); // whoever stops early may close what they read from
  }
}
