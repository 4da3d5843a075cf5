import type { NsmErrorName } from "../wire/nsm/nsm-responses.ts";

/** What the module answers with one of its error names. */
export class NsmRefused extends Error {
  readonly error: NsmErrorName;

  constructor(error: NsmErrorName) {
    super(error);
    this.name = "NsmRefused";
    this.error = error;
  }
}
