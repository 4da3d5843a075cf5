/** The supervisor's end of its socket pair with the attestation server, which parses bytes from outside and is not believed. */
import type { Duplex } from "node:stream";

import { KitError } from "../core/errors.ts";
import {
  type AttestationReport,
  type AttestationServerSettings,
  decodeServerLine,
  MAX_SERVER_LINE_BYTES,
} from "../wire/attestation-server.ts";

export interface AttestationChannelOptions {
  readonly settings: AttestationServerSettings;
  readonly onAlive: () => void;
  readonly onReport: (report: AttestationReport) => void;
  /** Something was said that is not of the protocol; the process is to end. */
  readonly onViolation: (error: KitError) => void;
}

const NEWLINE = 0x0a;

/** Serves one process until its socket closes. */
export function serveAttestation(stream: Duplex, options: AttestationChannelOptions): void {
  let rest = Buffer.alloc(0);
  stream.on("error", () => stream.destroy());
  stream.on("data", (chunk: Buffer) => {
    rest = Buffer.concat([rest, chunk]);
    try {
      for (let end = rest.indexOf(NEWLINE); end !== -1; end = rest.indexOf(NEWLINE)) {
        assertShort(end);
        obey(rest.toString("utf8", 0, end), options);
        rest = rest.subarray(end + 1);
      }
      assertShort(rest.length);
    } catch (error) {
      stream.destroy();
      options.onViolation(error instanceof KitError ? error : new KitError("E_ENCLAVE_FRAME", String(error)));
    }
  });
  stream.write(`${JSON.stringify(options.settings)}\n`);
}

function assertShort(sizeBytes: number): void {
  if (sizeBytes < MAX_SERVER_LINE_BYTES) return;
  throw new KitError("E_ENCLAVE_FRAME", `line: has more than ${MAX_SERVER_LINE_BYTES} bytes`);
}

function obey(text: string, { onAlive, onReport }: AttestationChannelOptions): void {
  const line = decodeServerLine(text);
  if ("alive" in line) onAlive();
  else onReport(line.report);
}
