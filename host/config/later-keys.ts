import { KitError } from "../../core/errors.ts";
import type { YamlFile, YamlPath } from "../../core/yaml-file.ts";

/**
 * Keys of the design that this release does not act on. They are refused by name: a limit or a rule that is read and
 * not enforced would be a lie. `*` stands for any one key.
 */
const LATER_KEYS: readonly (readonly [YamlPath, string])[] = [[["operators"], "operator certificates"]];

/** @throws E_CONFIG_UNSUPPORTED for the first key of a later release that the file uses. */
export function refuseLaterKeys(file: YamlFile): void {
  for (const [pattern, what] of LATER_KEYS) {
    const [path] = pathsMatching(file.value, pattern, []);
    if (path === undefined) continue;
    throw new KitError(
      "E_CONFIG_UNSUPPORTED",
      `${file.locateKey(path)}: ${path.join(".")}: this release has no ${what} yet`,
      {
        hint: "Remove the key; nothing would enforce it.",
      },
    );
  }
}

function pathsMatching(value: unknown, pattern: YamlPath, prefix: YamlPath): YamlPath[] {
  const [head, ...rest] = pattern;
  if (head === undefined) return [prefix];
  if (typeof value !== "object" || value === null || Array.isArray(value)) return [];
  const keys = head === "*" ? Object.keys(value) : [String(head)].filter((key) => Object.hasOwn(value, key));
  const children: ReadonlyMap<string, unknown> = new Map(Object.entries(value));
  return keys.flatMap((key) => pathsMatching(children.get(key), rest, [...prefix, key]));
}
