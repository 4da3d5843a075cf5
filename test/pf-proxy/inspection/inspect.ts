import type { TlsMode } from "../../../wire/egress-policy.ts";
import { createInspector, type StreamInspector } from "../../../pf-proxy/inspection/stream-inspector.ts";
import type { EgressTarget } from "../../../pf-proxy/policy/egress-policy.ts";
import { inspectAll, type InspectorOutcome } from "../../../scripts/egress-fuzz/inspector-run.ts";

export const NAME: EgressTarget = { kind: "name", host: "api.example.com", port: 80 };
export const ADDRESS: EgressTarget = { kind: "address", host: "192.0.2.1", port: 80 };

/** In Latin-1: one character, one byte. */
export function bytesOf(...lines: readonly string[]): Buffer {
  return Buffer.from(lines.join("\r\n"), "latin1");
}

export function open(tls: TlsMode, target: EgressTarget = NAME): StreamInspector {
  return createInspector({ tls, target });
}

/** All at once, and byte by byte: both must come to the same. @returns why it was refused; undefined: all passed */
export function refusalOf(
  bytes: Buffer,
  tls: TlsMode = "optional",
  target: EgressTarget = NAME,
): string | undefined {
  const whole = inspectAll(open(tls, target), [bytes]);
  const parts = inspectAll(open(tls, target), splitAll(bytes));
  if (whole.refusal !== parts.refusal) throw new Error(`${whole.refusal} in one, ${parts.refusal} in bytes`);
  for (const outcome of [whole, parts]) assertPassed(outcome, bytes);
  return whole.refusal;
}

function assertPassed({ passed, refusal }: InspectorOutcome, bytes: Buffer): void {
  if (refusal === undefined && !passed.equals(bytes)) throw new Error("bytes were lost or changed");
  if (!passed.equals(bytes.subarray(0, passed.length))) throw new Error("other bytes came out");
}

export function splitAll(bytes: Buffer): readonly Buffer[] {
  return Array.from(bytes, (_byte, at) => bytes.subarray(at, at + 1));
}
