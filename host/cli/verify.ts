import { resolve } from "node:path";

import { Command, InvalidArgumentError, Option } from "commander";

import type { AttestationPolicy } from "../../attest/verify/attestation-policy.ts";
import { purposeNames } from "../../attest/user-data.ts";
import { KitError } from "../../core/errors.ts";
import { readEif } from "../../rbuilds/eif/read-eif.ts";
import { MAX_DOCUMENT_BYTES } from "../../wire/attestation-document.ts";
import type { Purpose } from "../../wire/purposes.ts";
import { readRegisters } from "../attestation/image-registers.ts";
import { readLimited } from "../controller/verify/limited-input.ts";
import { findRoot } from "../controller/verify/trusted-root.ts";
import type { CommandContext, GetContext } from "./command-context.ts";
import { parseDuration } from "./up.ts";
import { describeVerification, verificationToJson } from "./verification-report.ts";
import { parseTime, type VerificationTime } from "./verification-time.ts";

interface VerifyFlags {
  readonly document?: string;
  readonly root?: string;
  readonly at?: VerificationTime;
  readonly pcr?: ReadonlyMap<number, string>;
  readonly image?: string;
  readonly nonce?: Uint8Array;
  readonly maxAge?: number;
  readonly purpose?: Purpose;
  readonly dataFile?: string;
  readonly allowDebug?: boolean;
  readonly json?: boolean;
}

const MAX_DATA_BYTES = 1024 * 1024;

export function createVerifyCommand(getContext: GetContext): Command {
  return new Command("verify")
    .description("verify an attestation document: that it is authentic, and that it says what you ask for")
    .option("--document <file>", "the document as CBOR; - for the standard input")
    .option("--root <root>", "whom to trust: aws, sha256:HEX, or the file of a root certificate")
    .option("--at <time>", "when it must be valid: now, or 2026-01-31T12:00:00Z to look back", parseTime)
    .option("--pcr <n=hex>", "a register and its value; may be repeated", collectRegister)
    .option("--image <eif>", "an enclave image file, whose registers the document must show")
    .option("--nonce <hex>", "what you sent with your question", parseNonce)
    .option("--max-age <duration>", "refuse older documents, for example 5m", parseDuration)
    .addOption(new Option("--purpose <name>", "what the document was made for").choices(purposeNames()))
    .option("--data-file <file>", "the data of the purpose; none unless told")
    .option("--allow-debug", "accept an enclave in debug mode: it can be read from outside")
    .option("--json", "print JSON")
    .addHelpText(
      "after",
      "\nExit status: 0 everything that was asked for holds, 3 bad evidence, 4 authentic but not what was asked for, 2 usage.\n\nExamples:\n  pipeline verify --document proof.cbor --root aws --at now --image signer.eif --nonce 5f3a --max-age 5m\n  pipeline verify --document old.cbor --root aws --at 2025-11-10T17:20:11Z --json",
    )
    .action(async (flags: VerifyFlags) => await runVerify(getContext(), flags));
}

function collectRegister(text: string, known: ReadonlyMap<number, string> = new Map()): Map<number, string> {
  const [, index = "", value = ""] = /^([0-9]|[12][0-9]|3[01])=((?:[0-9a-f]{32}){2,4})$/i.exec(text) ?? [];
  if (value === "") throw new InvalidArgumentError("write N=HEX: a number from 0 to 31 and 96 hex digits");
  if (known.has(Number(index))) throw new InvalidArgumentError(`register ${index} is given twice`);
  return new Map([...known, [Number(index), value.toLowerCase()]]);
}

function parseNonce(text: string): Uint8Array {
  if (/^(?:[0-9a-f]{2})+$/i.test(text)) return Buffer.from(text, "hex");
  throw new InvalidArgumentError("write the bytes in hex, at least one");
}

async function runVerify(
  { terminal, interrupted: signal }: CommandContext,
  flags: VerifyFlags,
): Promise<void> {
  const { document: source, root: rootText, at } = requireFlags(flags);
  const root = await findRoot(rootText, process.stdin, signal);
  const wanted = await readWanted(flags, signal);
  const limits = { what: "document", maxBytes: MAX_DOCUMENT_BYTES, signal };
  const bytes = await readLimited(source, process.stdin, limits);
  const isNow = at === "now";
  const request = { root, atMs: isNow ? Date.now() : at, isNow, wanted };
  // Readers of certificates, which no other command needs.
  const { verifyDocument } = await import("../controller/verify/verify-document.ts");
  const verification = await verifyDocument(bytes, request);
  const { refusal } = verification;
  // Before anything is printed: whoever stops listening must not take it for success.
  if (refusal !== null) process.exitCode = refusal.exitStatus;
  if (flags.json !== true)
    terminal.print(describeVerification(verification, (style, text) => terminal.colour(style, text))); // prettier-ignore
  else if (refusal === null) terminal.printJson(verificationToJson(verification, request));
  if (refusal !== null) throw refusal;
}

/** There is no safe default for any of the three. @throws E_USAGE */
function requireFlags({ document, root, at }: VerifyFlags) {
  if (document === undefined)
    throw usage("--document is missing", "Name the file of the document, or - for the standard input.");
  if (root === undefined)
    throw usage(
      "--root is missing: every document brings a root certificate of its own, so one that you do not name proves nothing",
      "Write --root aws for hardware, or --root sha256:HEX of an authority that you know, such as that of a development NSM.",
    );
  if (at === undefined)
    throw usage(
      "--at is missing: a document is good for three hours at most, and only you know whether you ask about now or about the past",
      "Write --at now, or, to look back, the time when the document came, such as --at 2026-01-31T12:00:00Z.",
    );
  return { document, root, at };
}

async function readWanted(
  flags: VerifyFlags,
  signal: AbortSignal,
): Promise<Omit<AttestationPolicy, "roots">> {
  const { nonce, maxAge, allowDebug = false } = flags;
  const measurements = await readMeasurements(flags, signal);
  const purpose = await readPurpose(flags, signal);
  return {
    allowDebug,
    ...(measurements === undefined ? {} : { measurements: [measurements] }),
    ...(nonce === undefined ? {} : { nonce }),
    ...(maxAge === undefined ? {} : { maxAgeMs: maxAge }),
    ...(purpose === undefined ? {} : { purpose }),
  };
}

/** Those of --pcr and of --image together; they may say the same, but not contradict. @throws E_USAGE, E_EIF_* */
async function readMeasurements(
  { pcr, image }: VerifyFlags,
  signal: AbortSignal,
): Promise<ReadonlyMap<number, string> | undefined> {
  if (image === undefined) return pcr;
  const { pcrs } = await readEif(resolve(image), { signal });
  const registers = new Map(await readRegisters({ kind: "image", pcrs }, signal));
  for (const [index, value] of pcr ?? []) {
    const measured = registers.get(index) ?? value;
    if (measured !== value)
      throw usage(`--pcr ${index} is not what ${image} has: ${measured}`, "Leave one of the two out.");
    registers.set(index, value);
  }
  return registers;
}

async function readPurpose(
  { purpose, dataFile }: VerifyFlags,
  signal: AbortSignal,
): Promise<AttestationPolicy["purpose"]> {
  if (purpose === undefined && dataFile !== undefined)
    throw usage("--data-file says nothing without --purpose", "Name the purpose that the data is for.");
  if (purpose === undefined) return undefined;
  if (dataFile === undefined) return { name: purpose, data: new Uint8Array() };
  if (dataFile === "-") throw usage("the data cannot come from the standard input", "Name a file.");
  const limits = { what: "data", maxBytes: MAX_DATA_BYTES, signal };
  const data = await readLimited(dataFile, process.stdin, limits);
  if (data.length <= MAX_DATA_BYTES) return { name: purpose, data };
  throw usage(`${dataFile} has more than ${MAX_DATA_BYTES} bytes`, "The data of a purpose is small.");
}

function usage(message: string, hint: string): KitError {
  return new KitError("E_USAGE", message, { hint });
}
