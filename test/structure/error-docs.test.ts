import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";

import { ERROR_TABLE } from "../../core/error-table.ts";
import { renderErrorDocs } from "../../scripts/error-docs.ts";
import { readSources, ROOT } from "./source-files.ts";

test("docs/errors.md is what the error table says (npm run docs:errors)", async () => {
  expect(await readFile(join(ROOT, "docs", "errors.md"), "utf8")).toBe(renderErrorDocs());
});

test("every code is used in the sources, and every code in the sources is in the table", async () => {
  const sources = await readSources(
    "{core,wire,native,archive,attest,control,dev,ra-server,rbuilds,pf-proxy,enclave,host,scripts}/**/*.ts",
  );
  expect(sources.length).toBeGreaterThan(40);
  const text = sources
    .filter((file) => !file.path.startsWith("core/error-codes/"))
    .map((file) => file.text)
    .join("\n");
  const used = new Set([...text.matchAll(/"(E_[A-Z][A-Z0-9_]*[A-Z0-9])"/g)].map((match) => match[1] ?? ""));
  expect([...used].filter((code) => !Object.hasOwn(ERROR_TABLE, code))).toEqual([]);
  expect(Object.keys(ERROR_TABLE).filter((code) => !used.has(code))).toEqual([]);
});

test("codes are named E_<AREA>_<WHAT> or are one of the few general ones", () => {
  const general = ["E_INTERNAL", "E_CANCELLED", "E_DEADLINE", "E_DISK_FULL", "E_USAGE"];
  const odd = Object.keys(ERROR_TABLE).filter(
    (code) => !general.includes(code) && !/^E(_[A-Z0-9]+){2,}$/.test(code),
  );
  expect(odd).toEqual([]);
});
