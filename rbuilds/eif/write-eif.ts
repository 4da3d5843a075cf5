/**
 * Writes enclave image files (wire/eif/eif-layout.ts). Two threads share the work: this one reads, writes and takes
 * PCR0 and PCR1; the other one takes PCR2 and, where the header is known beforehand, the digest of the file.
 */
import { createHash, randomBytes } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";

import { isErrno, KitError, toKitError } from "../../core/errors.ts";
import type { EifArchitecture } from "../../wire/eif/eif-layout.ts";
import { type EifMetadata, encodeEifMetadata } from "../../wire/eif/metadata.ts";
import type { PreparedFile } from "../prepared-file.ts";
import { BLOCK_BYTES, BlockMemory } from "./block-memory.ts";
import {
  encodeCommandLine,
  fileSizeOf,
  piecesOf,
  planHeader,
  type PlannedSection,
  planSections,
  type SectionInit,
} from "./eif-plan.ts";
import { openSigner, type Signer, type SigningInput } from "./eif-signer.ts";
import type { HashBlock } from "./hash-messages.ts";
import { HashThread } from "./hash-thread.ts";
import { assembleBlocks, type ImageBlock, type ImagePiece } from "./image-blocks.ts";
import { createImageFile, type ImageFile } from "./image-file.ts";
import { extendZero, type Pcrs } from "./measurements.ts";

export interface EifWriteRequest {
  readonly architecture: EifArchitecture;
  readonly kernel: PreparedFile;
  readonly commandLine: string;
  readonly metadata: EifMetadata;
  /** Each is the concatenation of its parts. */
  readonly ramdisks: readonly (readonly PreparedFile[])[];
  readonly signing?: SigningInput | undefined;
}

export interface EifWriteOptions {
  /** Program of the hashing thread: dist/eif-hasher.js. */
  readonly hasher: string;
  readonly signal?: AbortSignal | undefined;
  /** Now, for the certificate; the time of the call unless told. */
  readonly at?: Date;
  /** Called often, with the bytes written so far and in all. */
  readonly onProgress?: ((writtenBytes: number, sizeBytes: number) => void) | undefined;
}

export interface WrittenEif {
  readonly path: string;
  /** Of the file, lower-case hex. */
  readonly sha256: string;
  readonly sizeBytes: number;
  readonly pcrs: Pcrs;
}

const READABLE = 0o644;

/**
 * The file appears under its name whole or not at all; whoever writes last to a name has it.
 * @throws E_EIF_SOURCE_CHANGED, E_EIF_SIGNING_KEY, E_EIF_CERTIFICATE_*, E_EIF_TOO_LARGE, E_EIF_COMMAND_LINE,
 *   E_EIF_METADATA, E_EIF_FILE, E_DISK_FULL, E_CANCELLED, E_DEADLINE
 */
export async function writeEif(
  request: EifWriteRequest,
  path: string,
  options: EifWriteOptions,
): Promise<WrittenEif> {
  const signer =
    request.signing === undefined ? undefined : openSigner(request.signing, options.at ?? new Date());
  const temporary = join(dirname(path), `.${randomBytes(8).toString("hex")}.eif.tmp`);
  try {
    options.signal?.throwIfAborted();
    const sections = planSections(sectionsOf(request));
    await mkdir(dirname(path), { recursive: true });
    return await writeAndRename({ temporary, path }, { request, sections, signer, options });
  } catch (error) {
    throw toWriteError(error, path);
  }
}

async function writeAndRename(
  { temporary, path }: { readonly temporary: string; readonly path: string },
  plan: Plan,
): Promise<WrittenEif> {
  try {
    const written = await writeTemporary(temporary, plan);
    plan.options.signal?.throwIfAborted();
    await rename(temporary, path);
    return { ...written, path };
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** A quota is a disk to whoever has one. */
const FULL: readonly string[] = ["ENOSPC", "EDQUOT"];

function toWriteError(error: unknown, path: string): KitError {
  if (!isErrno(error) || error.syscall === undefined) return toKitError(error);
  const code = FULL.includes(error.code ?? "") ? "E_DISK_FULL" : "E_EIF_FILE";
  return new KitError(code, `cannot write ${path}: ${error.code}`, { cause: error });
}

function sectionsOf({ kernel, commandLine, metadata, ramdisks }: EifWriteRequest): SectionInit[] {
  return [
    { kind: "kernel", parts: [kernel] },
    { kind: "commandLine", parts: [encodeCommandLine(commandLine)] },
    { kind: "metadata", parts: [encodeEifMetadata(metadata)] },
    ...ramdisks.map((parts) => ({ kind: "ramdisk" as const, parts })),
  ];
}

interface Plan {
  readonly request: EifWriteRequest;
  /** All but the signature. */
  readonly sections: readonly PlannedSection[];
  readonly signer: Signer | undefined;
  readonly options: EifWriteOptions;
}

type Written = Omit<WrittenEif, "path">;

async function writeTemporary(path: string, plan: Plan): Promise<Written> {
  const { sections, signer } = plan;
  const sizeBytes = fileSizeOf(sections);
  await using file = await createImageFile(path, READABLE);
  const { pcrs, sha256 } = await writeUnsigned(file, plan);
  if (signer === undefined) {
    await file.finish(sizeBytes);
    return { sha256, sizeBytes, pcrs };
  }
  const signedBytes = await addSignature(file, plan, signer.sign(Buffer.from(pcrs.PCR0, "hex")));
  await file.finish(signedBytes);
  // The header of a signed image depends on all of its content, so its digest takes a pass of its own.
  return {
    sha256: await digestOf(path, plan.options.signal),
    sizeBytes: signedBytes,
    pcrs: { ...pcrs, PCR8: signer.pcr8 },
  };
}

/** The image as it is without a signature. */
async function writeUnsigned(file: ImageFile, plan: Plan): Promise<{ pcrs: Pcrs; sha256: string }> {
  const { sections, signer, options, request } = plan;
  const { signal, onProgress } = options;
  const memory = new BlockMemory();
  const data = { shared: memory.shared, withFile: signer === undefined };
  await using thread = new HashThread(options.hasher, data);
  const registers = new BaseRegisters();
  const sizeBytes = fileSizeOf(sections);
  const pieces = piecesOf(planHeader(request.architecture, sections), sections);
  const onSpan = registers.update.bind(registers);
  for await (const block of assembleBlocks(pieces, { memory, onSpan, signal })) {
    const position = block.index * BLOCK_BYTES;
    const written = file.writeBlock(block.memory, block.sizeBytes, position);
    memory.release(block.index, Promise.all([written, thread.update(toHash(block))]));
    onProgress?.(position + block.sizeBytes, sizeBytes);
  }
  await memory.drain();
  const { pcr2, file: sha256 } = await thread.digests();
  return { pcrs: { ...registers.finish(), PCR2: extendZero(pcr2) }, sha256 };
}

function toHash({ memory, spans }: ImageBlock): HashBlock {
  const steps = spans.map(({ end, piece }) => [end, piece.measuredBy.includes("PCR2")] as const);
  return { offset: memory.byteOffset, steps };
}

/** What PCR1 measures is the beginning of what PCR0 measures. */
class BaseRegisters {
  readonly #hash = createHash("sha384");
  #first: string | undefined;

  update(bytes: Buffer, { measuredBy }: ImagePiece): void {
    if (measuredBy.includes("PCR2")) this.#first ??= this.#hash.copy().digest("hex");
    if (measuredBy.includes("PCR0")) this.#hash.update(bytes);
  }

  finish(): Pick<Pcrs, "PCR0" | "PCR1"> {
    const all = this.#hash.digest("hex");
    return { PCR0: extendZero(all), PCR1: extendZero(this.#first ?? all) };
  }
}

/** @returns size of the signed image */
async function addSignature(file: ImageFile, { request, sections }: Plan, section: Buffer): Promise<number> {
  const signed = planSections([...sections, { kind: "signature", parts: [section] }]);
  const last = signed.at(-1);
  if (last === undefined) throw new TypeError("no sections");
  await file.write(Buffer.concat([last.header, section]), last.offset);
  await file.write(planHeader(request.architecture, signed), 0);
  return fileSizeOf(signed);
}

async function digestOf(path: string, signal: AbortSignal | undefined): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path, { highWaterMark: BLOCK_BYTES }), hash, { signal });
  return hash.digest("hex");
}
