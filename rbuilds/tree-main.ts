/**
 * Writes or removes a tree inside a user namespace that maps its owners; the local backend runs it there.
 *
 *   tree.js write MANIFEST BLOBS DIRECTORY
 *   tree.js remove DIRECTORY
 *
 * Prints nothing, or one JSON line with the error; exit status as in docs/errors.md.
 */
import { readFile } from "node:fs/promises";

import { errorToJson, KitError, toKitError } from "../core/errors.ts";
import { openBlobStore } from "./blob-store.ts";
import { decodeManifest } from "./manifest-file.ts";
import { materialiseTree, removeTree } from "./tree.ts";

async function main([verb, ...words]: readonly string[]): Promise<void> {
  if (verb === "remove" && words.length === 1) return await removeTree(words[0] ?? "");
  const [manifestPath, blobsDirectory, directory] = words;
  if (
    verb !== "write" ||
    manifestPath === undefined ||
    blobsDirectory === undefined ||
    directory === undefined
  ) {
    throw new KitError("E_USAGE", "usage: tree.js write MANIFEST BLOBS DIRECTORY | remove DIRECTORY");
  }
  const manifest = decodeManifest(await readFile(manifestPath));
  const blobs = await openBlobStore(blobsDirectory);
  await materialiseTree(manifest, directory, { owners: { kind: "mapped" }, blobPath: blobs.path });
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  const refusal = toKitError(error);
  process.stdout.write(`${JSON.stringify(errorToJson(refusal))}\n`);
  process.exitCode = refusal.exitStatus;
}
