import { writeFile } from "node:fs/promises";
import { resolve } from "node:path";

import { Command, InvalidArgumentError } from "commander";

import { readEif } from "../../rbuilds/eif/read-eif.ts";
import type { RegisterSource } from "../attestation/image-registers.ts";
import { loadEnclaveSpec } from "../config/load-spec.ts";
import type { Attested } from "../controller/attest.ts";
import { inspectEnclave } from "../controller/inspect.ts";
import { prepareMachine } from "../controller/machines/prepare-machine.ts";
import type { CommandContext, GetContext } from "./command-context.ts";

interface AttestFlags {
  readonly nonce?: Uint8Array;
  readonly statement?: string;
  readonly out?: string;
  readonly image?: string;
  readonly file?: string;
  readonly json?: boolean;
}

const MAX_NONCE_BYTES = 512;

export function createAttestCommand(getContext: GetContext): Command {
  return new Command("attest")
    .description(
      "have a running enclave prove what it runs, and verify that against the image on this machine",
    )
    .argument("<name>", "name of the enclave")
    .option("--nonce <hex>", "1 to 512 bytes that the proof must repeat; random ones unless told", parseHex)
    .option("--statement <text>", "what the enclave is to say in its proof")
    .option("--out <file>", "write the document there, for `pipeline verify`")
    .option("--image <eif>", "compare with this image file instead of the image that was started")
    .option("-f, --file <file>", "compare with the image that this enclave.yaml gives now")
    .option("--json", "print JSON")
    .addHelpText(
      "after",
      "\nExit status: 0 proven, 3 bad evidence, 4 another image or answer than asked for.\n\nExamples:\n  pipeline attest hello\n  pipeline attest hello --statement 'order 17' --out proof.cbor --json",
    )
    .action(async (name: string, flags: AttestFlags) => await runAttest(getContext(), name, flags));
}

function parseHex(text: string): Uint8Array {
  const bytes = Buffer.from(text, "hex");
  if (/^(?:[0-9a-f]{2})+$/i.test(text) && bytes.length <= MAX_NONCE_BYTES) return bytes;
  throw new InvalidArgumentError(`write 1 to ${MAX_NONCE_BYTES} bytes in hex`);
}

async function runAttest(context: CommandContext, name: string, flags: AttestFlags): Promise<void> {
  const { toolkit, terminal, interrupted } = context;
  const { nonce, statement = "" } = flags;
  // Loaded here: TLS, HTTP and certificates would delay every other command.
  const { attestEnclave } = await import("../controller/attest.ts");
  const attested = await attestEnclave(toolkit.stateDir, {
    name,
    nonce,
    statement: Buffer.from(statement),
    registers: await chooseRegisters(context, name, flags),
    signal: interrupted,
    onProgress: (step) => terminal.progress(step),
  });
  if (flags.out !== undefined) await writeFile(flags.out, attested.bytes);
  if (flags.json === true) terminal.printJson(toJson(attested, statement));
  else terminal.print(describe(attested, statement, (text) => terminal.colour("green", text)));
}

/** @throws E_EIF_*, E_CONFIG_*, what building an image throws */
async function chooseRegisters(
  { toolkit, terminal, interrupted: signal }: CommandContext,
  name: string,
  { image, file }: AttestFlags,
): Promise<RegisterSource | undefined> {
  if (image !== undefined) {
    const { pcrs } = await readEif(resolve(image), { signal });
    return { kind: "image", pcrs };
  }
  if (file === undefined) return undefined;
  const { backend, debug } = await inspectEnclave(toolkit.stateDir, name);
  const spec = await loadEnclaveSpec(file);
  const onProgress = (step: string): void => terminal.progress(step);
  await using machine = await prepareMachine(toolkit, backend, { spec, name, debug, signal, onProgress });
  return machine.registers;
}

function toJson({ record, document, bytes, nonce, compared }: Attested, statement: string) {
  const hex = (value: Uint8Array): string => Buffer.from(value).toString("hex");
  return {
    name: record.name,
    verdict: "attested",
    backend: record.backend,
    attestation: record.attestation,
    root: document.rootSha256,
    moduleId: document.moduleId,
    timestampMs: document.timestampMs,
    compared: Object.fromEntries(compared),
    registers: Object.fromEntries([...document.pcrs].map(([index, value]) => [index, hex(value)])),
    nonce: hex(nonce),
    statement,
    document: Buffer.from(bytes).toString("base64"),
  };
}

function describe(
  { record, document, compared, nonce }: Attested,
  statement: string,
  good: (text: string) => string,
): string {
  const registers = [...compared].map(([index, value]) => `  PCR${index}   ${value}`);
  const hardware = record.attestation === "nitro";
  return [
    `${good("attested")}: ${record.name} runs the image it was compared with`,
    ...registers,
    `  nonce  ${Buffer.from(nonce).toString("hex")}`,
    ...(statement === "" ? [] : [`  it says ${JSON.stringify(statement)}`]),
    `  at     ${new Date(document.timestampMs).toISOString()}, ${document.moduleId}`,
    hardware
      ? "  root   AWS Nitro Enclaves: the hypervisor vouches for it"
      : "  root   development: it proves the path, and protects nothing from this host",
  ].join("\n");
}
