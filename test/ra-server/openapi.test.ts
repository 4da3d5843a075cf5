import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";

import { renderAttestationOpenapi } from "../../scripts/attestation-openapi-docs.ts";
import { ROOT } from "../structure/source-files.ts";

test("docs/attestation-openapi.json is what the server serves (npm run docs:openapi)", async () => {
  const kept = await readFile(join(ROOT, "docs", "attestation-openapi.json"), "utf8");
  expect(kept).toBe(renderAttestationOpenapi());
});
