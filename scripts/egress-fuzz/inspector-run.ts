/** Lets a client's bytes through an inspector and tells what came of it. */
import { KitError } from "../../core/errors.ts";
import type { StreamInspector } from "../../pf-proxy/inspection/stream-inspector.ts";

export interface InspectorOutcome {
  /** What passed, also where the rest was refused. */
  readonly passed: Buffer;
  /** Why; undefined where everything passed. */
  readonly refusal: string | undefined;
}

/** @param answer of the server, seen after the bytes of the client and before its end */
export function inspectAll(
  inspector: StreamInspector,
  chunks: readonly Buffer[],
  answer: readonly Buffer[] = [],
): InspectorOutcome {
  const passed: Buffer[] = [];
  try {
    for (const chunk of chunks) passed.push(...inspector.push(chunk));
    for (const chunk of answer) passed.push(...inspector.fromServer(chunk));
    passed.push(...inspector.end());
    return { passed: Buffer.concat(passed), refusal: undefined };
  } catch (error) {
    if (!(error instanceof KitError) || error.code !== "E_EGRESS_INSPECTION") throw error;
    return { passed: Buffer.concat(passed), refusal: error.message };
  }
}

/** What holds for any bytes, in whichever chunks. @throws Error where it does not */
export function assertSane(bytes: Buffer, whole: InspectorOutcome, parts: InspectorOutcome): void {
  for (const { passed, refusal } of [whole, parts]) {
    if (!passed.equals(bytes.subarray(0, passed.length)))
      throw new Error("other bytes came out than went in");
    if (refusal === undefined && passed.length !== bytes.length) throw new Error("bytes were lost");
  }
  if (whole.refusal === parts.refusal) return;
  throw new Error(`in one chunk ${whole.refusal ?? "all passes"}, in parts ${parts.refusal ?? "all passes"}`);
}
