import { access, constants } from "node:fs/promises";
import { delimiter, join } from "node:path";

import { KitError } from "../../../core/errors.ts";

/** @param searchPath PATH; relative folders in it are not searched. @throws E_NITRO_MISSING */
export async function findNitroCli(searchPath: string): Promise<string> {
  const path = await findProgram("nitro-cli", searchPath);
  if (path === undefined) throw new KitError("E_NITRO_MISSING", "nitro-cli is not in PATH");
  return path;
}

/** @returns the absolute path, or undefined */
export async function findProgram(name: string, searchPath: string): Promise<string | undefined> {
  for (const folder of searchPath.split(delimiter).filter((one) => one.startsWith("/"))) {
    const path = join(folder, name);
    const isThere = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (isThere) return path;
  }
  return undefined;
}
