/**
 * Which modules of a distribution's kernel an enclave loads.
 *
 *   modules.dep      `kernel/net/vmw_vsock/vsock.ko.xz: kernel/lib/a.ko.xz kernel/lib/b.ko.xz`
 *                    a module and everything it needs, what is needed by others last
 *   modules.builtin  `kernel/drivers/tty/x.ko` for what is part of the kernel itself
 */
import { readFile } from "node:fs/promises";
import { basename, join, normalize } from "node:path";

import { isErrno, KitError } from "../../core/errors.ts";
import { WANTED_MODULES } from "./kernel-features.ts";

export interface ChosenModule {
  /** With underscores, as the kernel calls it. */
  readonly name: string;
  readonly path: string;
}

const MAX_TABLE_BYTES = 16 * 1024 * 1024;
const MAX_MODULES = 200;

/** In the order of loading; wanted modules that the folder does not have are left out. @throws E_KERNEL_FILE */
export async function chooseModules(directory: string): Promise<readonly ChosenModule[]> {
  const table = parseDependencies(await readTable(join(directory, "modules.dep")));
  const chosen = new Map<string, ChosenModule>();
  for (const wanted of WANTED_MODULES) {
    const entry = table.get(moduleName(wanted));
    if (entry === undefined) continue;
    for (const file of [...entry.needs].reverse().concat(entry.file)) {
      const name = moduleName(file);
      if (!chosen.has(name)) chosen.set(name, { name, path: insideOf(directory, file) });
    }
  }
  if (chosen.size > MAX_MODULES)
    throw new KitError("E_KERNEL_FILE", `${directory}: more than ${MAX_MODULES} modules would be loaded`);
  return [...chosen.values()];
}

interface Dependencies {
  readonly file: string;
  readonly needs: readonly string[];
}

function parseDependencies(text: string): ReadonlyMap<string, Dependencies> {
  const table = new Map<string, Dependencies>();
  for (const line of text.split("\n")) {
    const [, file, needs = ""] = /^([^:]+\.ko(?:\.[a-z0-9]+)?):(.*)$/.exec(line) ?? [];
    if (file !== undefined)
      table.set(moduleName(file), { file, needs: needs.split(" ").filter((name) => name !== "") });
  }
  return table;
}

function moduleName(file: string): string {
  return basename(file)
    .replace(/\.ko(?:\.[a-z0-9]+)?$/, "")
    .replaceAll("-", "_");
}

function insideOf(directory: string, file: string): string {
  const path = normalize(file);
  if (path.startsWith("/") || path.startsWith(".."))
    throw new KitError(
      "E_KERNEL_FILE",
      `${directory}/modules.dep names ${JSON.stringify(file)}, outside of it`,
    );
  return join(directory, path);
}

async function readTable(path: string): Promise<string> {
  try {
    const text = await readFile(path, "utf8");
    if (text.length <= MAX_TABLE_BYTES) return text;
    throw new KitError("E_KERNEL_FILE", `${path} is too large`);
  } catch (error) {
    if (!isErrno(error)) throw error;
    throw new KitError("E_KERNEL_FILE", `${path}: ${error.code}`, { cause: error });
  }
}
