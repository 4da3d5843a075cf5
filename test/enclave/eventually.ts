/** Waits for conditions, never for durations. */
import { setTimeout as sleep } from "node:timers/promises";

/** Far more than anything takes, even where a kernel compiles beside the tests. */
const DEADLINE_MS = 45_000;

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
