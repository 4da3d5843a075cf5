/** Writes docs/openapi.json, the description of the control API. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";

import { renderOpenapi } from "./openapi-docs.ts";

await writeFile(join(import.meta.dirname, "..", "docs", "openapi.json"), renderOpenapi());
