/** What a backend cannot promise, in one place. A test that needs such a thing is skipped with the reason given here. */
import type { BackendName } from "./backends.ts";

export type Feature = "users" | "cgroups";

/** Each holds for an ordinary user; root has everything on every backend. */
interface Difference {
  readonly backend: BackendName;
  readonly feature: Feature;
  readonly why: string;
}

const DIFFERENCES: readonly Difference[] = [
  {
    backend: "local",
    feature: "users",
    why: "an ordinary user may map one uid, so that services share it and are not kept apart",
  },
  {
    backend: "local",
    feature: "cgroups",
    why: "an ordinary user may not make cgroups on this host, so that limits which need one do not hold",
  },
];

/** Why `backend` lacks `feature` for the user who runs the tests; undefined if it has it. */
export function whyLacking(backend: BackendName, feature: Feature): string | undefined {
  if (process.getuid?.() === 0) return undefined;
  return DIFFERENCES.find((one) => one.backend === backend && one.feature === feature)?.why;
}
