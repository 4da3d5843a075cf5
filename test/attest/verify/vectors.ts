/** Genuine documents that other projects publish. They lie beside the project, and are no part of it. */
import { access } from "node:fs/promises";
import { join } from "node:path";

import type { ErrorCode } from "../../../core/error-table.ts";

const DIRECTORY = join(import.meta.dirname, "..", "..", "..", "..", "shared", "vectors");

export interface Vector {
  readonly name: string;
  /** When the document came. */
  readonly at: string;
  /** null: everything holds. */
  readonly refusal: ErrorCode | null;
}

export const VECTORS: readonly Vector[] = [
  { name: "attestation-2022-11-09.cbor", at: "2022-11-09T22:52:01Z", refusal: null },
  {
    name: "attestation-2022-11-09-bad-signature.cbor",
    at: "2022-11-09T22:52:01Z",
    refusal: "E_EVIDENCE_SIGNATURE",
  },
  { name: "attestation-2025-01-06-public-key.cbor", at: "2025-01-06T16:07:06Z", refusal: null },
  { name: "attestation-2022-10-12-debug.cbor", at: "2022-10-12T13:50:07Z", refusal: "E_UNMET_DEBUG" },
  { name: "attestation-2025-11-10-indefinite-pcr16.cbor", at: "2025-11-10T17:20:11Z", refusal: null },
];

export function pathOf({ name }: Pick<Vector, "name">): string {
  return join(DIRECTORY, name);
}

/** Why tests of a genuine document are left out; undefined: it is there. */
export async function whyMissing(vector: Pick<Vector, "name">): Promise<string | undefined> {
  return await access(pathOf(vector)).then(
    () => undefined,
    () => `${vector.name} is not in ../shared/vectors: genuine documents are no part of the project`,
  );
}
