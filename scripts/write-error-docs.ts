/** Writes docs/errors.md from the error table; test/structure/error-docs.test.ts compares. */
import { writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { renderErrorDocs } from "./error-docs.ts";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
await writeFile(join(root, "docs", "errors.md"), renderErrorDocs());
