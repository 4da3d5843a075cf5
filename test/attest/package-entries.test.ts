/** The programs of docs/attestation.md, against the package as others import it. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";

import { ROOT } from "../structure/source-files.ts";

let directory: string;

beforeAll(async () => {
  // Below the package, so that it can name itself.
  directory = await mkdtemp(join(ROOT, "dist", "example-"));
});
afterAll(() => rm(directory, { recursive: true }));

async function example(
  importing: string,
): Promise<Record<string, (...values: unknown[]) => Promise<unknown>>> {
  const text = await readFile(join(ROOT, "docs", "attestation.md"), "utf8");
  const code = [...text.matchAll(/```js\n(.*?)```/gs)].map(([, block = ""]) => block);
  const found = code.find((block) => block.includes(`"${importing}"`));
  const path = join(directory, `${crypto.randomUUID()}.mjs`);
  await writeFile(path, found ?? "");
  return (await import(pathToFileURL(path).href)) as Awaited<ReturnType<typeof example>>;
}

test("the verifier of the document refuses what is no document by code", async () => {
  const { judge } = await example("enclave-toolkit/verify");
  const refused = judge?.(Uint8Array.of(0xff), Uint8Array.of(1), [[0, "00".repeat(48)]]);
  await expect(refused).rejects.toMatchObject({ code: expect.stringMatching(/^E_EVIDENCE_/) });
});

test("the client of the document connects to nobody that shows no certificate", async () => {
  const { askEnclave } = await example("enclave-toolkit/client");
  await expect(askEnclave?.("http://127.0.0.1:1/", [])).rejects.toMatchObject({ code: "E_RA_URL" });
});
