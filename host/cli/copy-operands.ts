/** The two operands of `cp`: one is a place in an enclave, `NAME:/path`; the other is local. */
import { KitError } from "../../core/errors.ts";
import { EnclaveName } from "../config/enclave-schema.ts";

export interface CopyPlan {
  readonly direction: "in" | "out";
  readonly enclave: string;
  /** Absolute, inside. */
  readonly remote: string;
  /** A path, or "-" for standard input or output. */
  readonly local: string;
}

/** @throws E_USAGE */
export function parseCopy(source: string, destination: string): CopyPlan {
  const from = parseRemote(source);
  const to = parseRemote(destination);
  if (from !== undefined && to === undefined) return { direction: "out", ...from, local: destination };
  if (to !== undefined && from === undefined) return { direction: "in", ...to, local: source };
  const what = from === undefined ? "neither operand names an enclave" : "both operands name an enclave";
  throw new KitError("E_USAGE", `cp copies between this host and an enclave: ${what}`, {
    hint: "Write one of them as NAME:/path, the other as a local path or -.",
  });
}

/** Undefined for a local path; one with a colon is written with ./ or / in front. @throws E_USAGE */
function parseRemote(operand: string): Pick<CopyPlan, "enclave" | "remote"> | undefined {
  const [, enclave = "", remote = ""] = /^([^/.:][^/:]*):(.*)$/s.exec(operand) ?? [];
  if (enclave === "") return undefined;
  if (EnclaveName.safeParse(enclave).success && remote.startsWith("/")) return { enclave, remote };
  throw new KitError("E_USAGE", `${JSON.stringify(operand)} is neither NAME:/path nor a local path`, {
    hint: "Paths inside are absolute. A local path with a colon is written with ./ in front.",
  });
}
