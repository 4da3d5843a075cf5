import type { LocalPlan } from "./local/local-plan.ts";
import type { NitroPlan } from "./nitro/nitro-plan.ts";
import type { QemuPlan } from "./qemu/qemu-plan.ts";

/** What a runner needs to make the machine: worked out by `up`, for one backend. */
export type MachinePlan =
  | {
      readonly backend: "local";
      readonly plan: LocalPlan;
      /** Path of the launcher program. */
      readonly launcher: string;
    }
  | { readonly backend: "qemu"; readonly plan: QemuPlan }
  | {
      readonly backend: "nitro";
      readonly plan: NitroPlan;
      /** native/addon.ts */
      readonly addon: string;
    };

export type BackendName = MachinePlan["backend"];
export const BACKEND_NAMES = ["local", "qemu", "nitro"] as const satisfies readonly BackendName[];
