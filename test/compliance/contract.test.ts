import { glob, readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";

import { ROOT } from "../e2e/testbed.ts";

test("every test that docs/backends.md names for a promise is one of this suite", async () => {
  const document = await readFile(join(ROOT, "docs", "backends.md"), "utf8");
  const named = [...document.matchAll(/^\| .* \| (.*) \|$/gm)].flatMap(([, cell = ""]) =>
    [...cell.matchAll(/"([^"]+)"/g)].map((match) => match[1] ?? ""),
  );
  expect(named.length).toBeGreaterThan(30);
  const sources: string[] = [];
  for await (const name of glob("*.ts", { cwd: import.meta.dirname }))
    if (name !== "contract.test.ts") sources.push(await readFile(join(import.meta.dirname, name), "utf8"));
  const suite = sources.join("\n");
  expect(named.filter((title) => !suite.includes(title))).toEqual([]);
});
