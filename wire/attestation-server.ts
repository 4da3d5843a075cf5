/**
 * What the supervisor tells the attestation server at its start, and what that tells about itself, over a socket pair:
 * lines of JSON. One from the supervisor, the settings; then from the server, of at most MAX_SERVER_LINE_BYTES each:
 * `{"alive": true}` every two seconds, and `{"report": {...}}` after every change.
 */
import { KitError } from "../core/errors.ts";
import { StrictObject } from "./strict-object.ts";

/** With its newline. */
export const MAX_SERVER_LINE_BYTES = 4096;

/** Read from the measured configuration and the measured files alone. */
export interface AttestationServerSettings {
  readonly name: string;
  readonly mode: "development" | "production";
  /** Which NSM answers; there is no other way to choose one. */
  readonly provider: "nitro" | "development";
  /** PEM of the authorities whose certificates clients must show; null: any client. */
  readonly clientCa: string | null;
  readonly image: {
    /** Version of the toolkit that built the image. */
    readonly toolkit: string;
    /** SHA-256 of the measured configuration, hex. */
    readonly config: string;
    /** SHA-256 of enclave.lock, hex; null: built without one. */
    readonly lock: string | null;
  };
}

export interface AttestationReport {
  /** `failed`: no document could be had; it is tried again. */
  readonly state: "starting" | "ready" | "failed";
  /** Code and text of the last failure. */
  readonly reason: { readonly code: string; readonly message: string } | null;
  /** Time of the newest document: what no clock of the host can lower. */
  readonly documentTimeMs: number | null;
  /** System clock minus that time, when the document came. */
  readonly clockOffsetMs: number | null;
  /** Jumps of the system clock against the documents' since the start. */
  readonly clockJumps: number;
  readonly certificateNotAfterMs: number | null;
}

export const FIRST_REPORT: AttestationReport = {
  state: "starting",
  reason: null,
  documentTimeMs: null,
  clockOffsetMs: null,
  clockJumps: 0,
  certificateNotAfterMs: null,
};

export type ServerLine = { readonly alive: true } | { readonly report: AttestationReport };

const TIME = { minimum: -Number.MAX_SAFE_INTEGER, maximum: Number.MAX_SAFE_INTEGER };
const COUNT = { minimum: 0, maximum: Number.MAX_SAFE_INTEGER };
const REPORT_KEYS = Object.keys(FIRST_REPORT);
const MAX_CODE = 64;
const MAX_MESSAGE = 1024;

/** A message is cut to what the supervisor takes. */
export function encodeServerLine(line: ServerLine): string {
  if (!("report" in line) || line.report.reason === null) return `${JSON.stringify(line)}\n`;
  const { code, message } = line.report.reason;
  const reason = { code, message: message.slice(0, MAX_MESSAGE) };
  return `${JSON.stringify({ report: { ...line.report, reason } })}\n`;
}

/** @throws E_ENCLAVE_FRAME */
export function decodeServerLine(text: string): ServerLine {
  const object = new StrictObject(parse(text), "line", ["alive", "report"], refuse);
  if (!object.has("report")) {
    if (object.boolean("alive")) return { alive: true };
    throw refuse("line.alive: must be true");
  }
  const report = object.object("report", REPORT_KEYS);
  return {
    report: {
      state: report.word("state", ["starting", "ready", "failed"]),
      reason: report.raw("reason") === null ? null : readReason(report.object("reason", ["code", "message"])),
      documentTimeMs: readTime(report, "documentTimeMs"),
      clockOffsetMs: readTime(report, "clockOffsetMs"),
      clockJumps: report.integer("clockJumps", COUNT),
      certificateNotAfterMs: readTime(report, "certificateNotAfterMs"),
    },
  };
}

function readReason(object: StrictObject): AttestationReport["reason"] {
  return {
    code: object.text("code", { pattern: /^[A-Z][A-Z0-9_]*$/, maximum: MAX_CODE }),
    message: object.text("message", { maximum: MAX_MESSAGE }),
  };
}

function readTime(object: StrictObject, key: string): number | null {
  return object.raw(key) === null ? null : object.integer(key, TIME);
}

function parse(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    return value;
  } catch (error) {
    throw new KitError("E_ENCLAVE_FRAME", "line: is not JSON", { cause: error });
  }
}

function refuse(message: string): KitError {
  return new KitError("E_ENCLAVE_FRAME", message);
}
