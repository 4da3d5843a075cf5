/** Refusals of archives that go into an image. */
import { KitError } from "../core/errors.ts";
import type { TarRefusal } from "../wire/tar/tar-header.ts";

/** Refusals with E_IMAGE_TAR. @param where names the archive. */
export function imageTarRefusal(where: string): TarRefusal {
  return (why, cause) => new KitError("E_IMAGE_TAR", `${where}: ${why}`, { cause });
}

/** The refusal of a member's name. */
export function tarNameError(where: string, name: string, why: string): KitError {
  return new KitError(
    "E_IMAGE_TAR_NAME",
    `${where}: the member ${JSON.stringify(name.slice(0, 200))}: ${why}`,
  );
}
