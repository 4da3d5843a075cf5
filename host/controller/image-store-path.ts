import { join } from "node:path";

import type { Toolkit } from "./toolkit.ts";

/** In the state, not in the cache: what somebody named must not go with a cache. */
export function imageStorePath({ stateDir }: Pick<Toolkit, "stateDir">): string {
  return join(stateDir, "images");
}
