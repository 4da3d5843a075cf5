/** Thread that carries out one hash plan (rbuilds/eif/hash-plan.ts) and posts `{ digests }` or `{ error }`. */
import { parentPort, workerData } from "node:worker_threads";

import { errorToJson, toKitError } from "../../core/errors.ts";
import { type HashPlan, runHashPlan } from "./hash-plan.ts";

const plan: HashPlan = workerData;
try {
  parentPort?.postMessage({ digests: await runHashPlan(plan) });
} catch (error) {
  const { code, message } = errorToJson(toKitError(error));
  parentPort?.postMessage({ error: { code, message } });
}
