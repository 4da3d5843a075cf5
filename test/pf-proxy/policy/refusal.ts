import { KitError } from "../../../core/errors.ts";

/** The code with which a call refuses, or what it returned. A wrong kind of error is the test's failure. */
export function outcomeOf<T>(call: () => T): { readonly value: T } | { readonly code: string } {
  try {
    return { value: call() };
  } catch (error) {
    if (!(error instanceof KitError)) throw error;
    return { code: error.code };
  }
}
