/**
 * Runs `work` for every item, `atOnce` at a time. When one fails no other is begun, and all that were are over before
 * the first failure is thrown: nothing goes on behind the caller's back.
 */
export async function forEachConcurrently<T>(
  items: Iterable<T>,
  atOnce: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const pending = [...items].values();
  let isFailed = false;
  const worker = async (): Promise<void> => {
    for (const item of pending) {
      if (isFailed) return;
      await work(item).catch((error: unknown) => {
        isFailed = true;
        throw error;
      });
    }
  };
  const results = await Promise.allSettled(Array.from({ length: atOnce }, worker));
  const failure = results.find((result) => result.status === "rejected");
  if (failure !== undefined) throw failure.reason;
}
