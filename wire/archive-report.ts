/**
 * What the program of a copy inside the enclave (archive/archive-main.ts) says at its end: one line of JSON, at most
 * MAX_ARCHIVE_REPORT_BYTES with its newline.
 *
 *   {"entries":3,"bytes":1024}
 *   {"code":"E_ARCHIVE_ENTRY","message":"...","hint":"..."}
 */
import { KitError } from "../core/errors.ts";
import { isErrorCode } from "../core/error-table.ts";
import { StrictObject } from "./strict-object.ts";

export const MAX_ARCHIVE_REPORT_BYTES = 4096;

export interface ArchiveSummary {
  /** Files, directories and links, the top one among them. */
  readonly entries: number;
  /** Of the content of all files; a hard link counts once. */
  readonly bytes: number;
}

/** With its newline. */
export function encodeArchiveSummary({ entries, bytes }: ArchiveSummary): string {
  return `${JSON.stringify({ entries, bytes })}\n`;
}

/** With its newline; what is too long of the message is left out. */
export function encodeArchiveRefusal({ code, message, hint }: KitError): string {
  for (let length = message.length; ; length = Math.floor(length / 2)) {
    const shown = length === message.length ? message : `${message.slice(0, length)}…`;
    const line = `${JSON.stringify({ code, message: shown.toWellFormed(), hint })}\n`;
    if (Buffer.byteLength(line) <= MAX_ARCHIVE_REPORT_BYTES || length === 0) return line;
  }
}

/** @param line with or without its newline. @throws the refusal that the line tells, or E_ARCHIVE_STREAM. */
export function decodeArchiveReport(line: string): ArchiveSummary {
  const value = parse(line);
  if (!value.has("code")) {
    const range = { minimum: 0, maximum: Number.MAX_SAFE_INTEGER };
    return { entries: value.integer("entries", range), bytes: value.integer("bytes", range) };
  }
  const code = value.text("code");
  if (!isErrorCode(code)) throw refusal(`the code ${JSON.stringify(code.slice(0, 64))} is unknown`);
  throw new KitError(code, value.text("message"), { hint: value.text("hint") });
}

function parse(line: string): StrictObject {
  if (line.length > MAX_ARCHIVE_REPORT_BYTES) throw refusal("it is too long");
  try {
    return new StrictObject(
      JSON.parse(line),
      "report",
      ["entries", "bytes", "code", "message", "hint"],
      refusal,
    );
  } catch (error) {
    if (error instanceof KitError) throw error;
    throw refusal("it is no JSON", error);
  }
}

function refusal(why: string, cause?: unknown): KitError {
  const message = `the program that copies inside the enclave did not say how it ended: ${why}`;
  return new KitError("E_ARCHIVE_STREAM", message, { cause });
}
