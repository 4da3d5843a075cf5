import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";

import { renderOpenapi } from "../../scripts/openapi-docs.ts";
import { ROOT } from "./source-files.ts";

test("docs/openapi.json is what the gateway serves (npm run docs:openapi)", async () => {
  expect(await readFile(join(ROOT, "docs", "openapi.json"), "utf8")).toBe(renderOpenapi());
});
