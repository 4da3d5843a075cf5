/** Names of entries, as they come from the other side. */
import { KitError } from "../core/errors.ts";
import { type ArchiveLimits, MAX_NAME_BYTES } from "./archive-limits.ts";
import { quoteName, refuseEntry } from "./archive-refusals.ts";

/**
 * The names that lead to an entry, the top one first: `./a/b/` and `a/b` are the same.
 * @throws E_ARCHIVE_ENTRY for what is absolute, empty, holds `..` or a NUL; E_ARCHIVE_LIMIT
 */
export function splitEntryName(name: string, limits: ArchiveLimits): readonly string[] {
  if (Buffer.byteLength(name) > limits.maxPathBytes)
    throw new KitError(
      "E_ARCHIVE_LIMIT",
      `${quoteName(name)}: it has more than ${limits.maxPathBytes} bytes`,
    );
  if (name.includes("\0")) throw refuseEntry(name, "it holds a NUL");
  if (name.startsWith("/")) throw refuseEntry(name, "it is absolute");
  const parts = name.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.length === 0) throw refuseEntry(name, "it names nothing");
  if (parts.includes("..")) throw refuseEntry(name, "it leads upwards");
  if (parts.length > limits.maxDepth)
    throw new KitError(
      "E_ARCHIVE_LIMIT",
      `${quoteName(name)}: it is below more than ${limits.maxDepth} others`,
    );
  if (parts.some((part) => Buffer.byteLength(part) > MAX_NAME_BYTES))
    throw refuseEntry(name, `a part of it has more than ${MAX_NAME_BYTES} bytes`);
  return parts;
}
