/** Images of AWS's own tool, rebuilt from test/fixtures/eif-golden: see the README there. */
import { readFile } from "node:fs/promises";

import { TYPES } from "./hand-assembly.ts";

export interface GoldenInput {
  readonly lengthBytes: number;
  readonly multiply: number;
  readonly add: number;
}

export interface GoldenImage {
  readonly name: string;
  readonly flags: number;
  readonly commandLine: string;
  /** Key of `metadata`. */
  readonly metadata: string;
  /** Keys of `inputs`. */
  readonly ramdisks: readonly string[];
  readonly sizeBytes: number;
  readonly sha256: string;
  /** Eight hexadecimal digits. */
  readonly crc32: string;
  readonly headerHex: string;
  readonly pcrs: Readonly<Record<string, string>>;
  readonly signature?: {
    /** Key of `certificates`. */
    readonly certificate: string;
    /** Whether a finished, unsigned image was signed, rather than signed while it was built. */
    readonly madeAfterwards: boolean;
    readonly sectionBase64: string;
    /** What AWS's check at the start of an enclave said on the day the image was made: "ok" or a message. */
    readonly awsRunTimeCheck: string;
  };
}

export interface Golden {
  readonly inputs: Readonly<Record<string, GoldenInput>>;
  /** The text of the metadata section. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly certificates: Readonly<Record<string, { readonly curve: string; readonly pem: string }>>;
  readonly images: readonly GoldenImage[];
}

export async function readGolden(): Promise<Golden> {
  const path = new URL("../fixtures/eif-golden/golden.json", import.meta.url);
  return JSON.parse(await readFile(path, "utf8")) as Golden;
}

/** The bytes of an input: byte i is (i * multiply + add) mod 256. */
export function makeInput({ lengthBytes, multiply, add }: GoldenInput): Buffer {
  return Buffer.from(Array.from({ length: lengthBytes }, (_, i) => (i * multiply + add) % 256));
}

/** The whole file as AWS's tool wrote it: its header, then each section from the inputs. */
export function rebuildImage(golden: Golden, image: GoldenImage): Buffer {
  const text = golden.metadata[image.metadata] ?? "";
  const sections: [number, Buffer][] = [
    [TYPES.kernel, inputNamed(golden, "kernel")],
    [TYPES.cmdline, Buffer.from(image.commandLine)],
    [TYPES.metadata, Buffer.from(text)],
    ...image.ramdisks.map((name): [number, Buffer] => [TYPES.ramdisk, inputNamed(golden, name)]),
  ];
  if (image.signature !== undefined) {
    sections.push([TYPES.signature, Buffer.from(image.signature.sectionBase64, "base64")]);
  }
  const bodies = sections.map(([type, data]) => {
    const header = Buffer.alloc(12);
    header.writeUInt16BE(type, 0);
    header.writeUInt32BE(data.length, 8);
    return Buffer.concat([header, data]);
  });
  return Buffer.concat([Buffer.from(image.headerHex, "hex"), ...bodies]);
}

function inputNamed(golden: Golden, name: string): Buffer {
  const input = golden.inputs[name];
  if (input === undefined) throw new Error(`golden.json has no input ${name}`);
  return makeInput(input);
}
