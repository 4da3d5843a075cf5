/** Writes docs/attestation-openapi.json, the description of the attestation API. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";

import { renderAttestationOpenapi } from "./attestation-openapi-docs.ts";

const path = join(import.meta.dirname, "..", "docs", "attestation-openapi.json");
await writeFile(path, renderAttestationOpenapi());
