/** What a reload changes. */
import { isDeepStrictEqual } from "node:util";

import type { ReloadResult } from "../wire/control.ts";
import type { ServiceConfig } from "../wire/enclave-config.ts";

/** Every name once, in the order of the new set, then those that are gone. */
export function compareServices(
  before: readonly ServiceConfig[],
  after: readonly ServiceConfig[],
): ReloadResult {
  const earlier = new Map(before.map((config) => [config.name, config]));
  const names = new Set(after.map((config) => config.name));
  const added = after.filter((config) => !earlier.has(config.name));
  const kept = after.filter((config) => earlier.has(config.name));
  const isSame = (config: ServiceConfig): boolean => isDeepStrictEqual(earlier.get(config.name), config);
  return {
    added: added.map((config) => config.name),
    removed: [...earlier.keys()].filter((name) => !names.has(name)),
    changed: kept.filter((config) => !isSame(config)).map((config) => config.name),
    unchanged: kept.filter(isSame).map((config) => config.name),
  };
}
