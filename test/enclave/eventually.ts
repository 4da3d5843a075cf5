/** Waits for conditions, never for durations. */
import { setTimeout as sleep } from "node:timers/promises";

const DEADLINE_MS = 20_000;

/** The first truthy value of `probe`; fails with the last one seen. */
export async function eventually<T>(what: string, probe: () => T | Promise<T>): Promise<NonNullable<T>> {
  const end = performance.now() + DEADLINE_MS;
  for (;;) {
    const value = await probe();
    if (value) return value;
    if (performance.now() > end) throw new Error(`never: ${what}; last: ${JSON.stringify(value)}`);
    await sleep(10);
  }
}
