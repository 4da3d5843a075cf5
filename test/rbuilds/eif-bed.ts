/** A directory with prepared files, keys and certificates to make images from. */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { crc32 } from "node:zlib";

import { KitError } from "../../core/errors.ts";
import { type EifWriteRequest, writeEif, type WrittenEif } from "../../rbuilds/eif/write-eif.ts";
import type { PreparedFile } from "../../rbuilds/prepared-file.ts";
import type { EifMetadata } from "../../wire/eif/metadata.ts";

const run = promisify(execFile);

export const HASHER = fileURLToPath(new URL("../../rbuilds/eif/hasher-main.ts", import.meta.url));

export const METADATA: EifMetadata = {
  imageName: "example",
  imageVersion: "1",
  buildMetadata: {
    buildTime: "1970-01-01T00:00:00Z",
    buildTool: "test",
    buildToolVersion: "0",
    operatingSystem: "Linux",
    kernelVersion: "6.12.1",
  },
  dockerInfo: null,
  customMetadata: null,
};

export const COMMAND_LINE = "reboot=k panic=30 console=ttyS0";

export interface SigningPair {
  readonly certificatePem: string;
  readonly privateKeyPem: string;
}

export class EifBed implements AsyncDisposable {
  readonly directory: string;
  #count = 0;

  constructor(directory: string) {
    this.directory = directory;
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  async bytes(bytes: Uint8Array): Promise<string> {
    this.#count += 1;
    const path = this.path(`file-${this.#count}`);
    await writeFile(path, bytes);
    return path;
  }

  async prepare(content: Uint8Array | string): Promise<PreparedFile> {
    const bytes = Buffer.from(content);
    return { path: await this.bytes(bytes), sizeBytes: bytes.length, crc32: crc32(bytes) };
  }

  /** Two ramdisks of two parts each, unless told. */
  async request(changes: Partial<EifWriteRequest> = {}): Promise<EifWriteRequest> {
    return {
      architecture: "x86_64",
      kernel: await this.prepare("a kernel"),
      commandLine: COMMAND_LINE,
      metadata: METADATA,
      ramdisks: [
        [await this.prepare("boot, "), await this.prepare("first")],
        [await this.prepare("application, "), await this.prepare("second")],
      ],
      ...changes,
    };
  }

  async write(name: string, changes: Partial<EifWriteRequest> = {}, at?: Date): Promise<WrittenEif> {
    const options = { hasher: HASHER, ...(at === undefined ? {} : { at }) };
    return await writeEif(await this.request(changes), this.path(name), options);
  }

  /** Names in the directory or one below it. */
  async names(folder = "."): Promise<string[]> {
    return (await readdir(this.path(folder))).sort();
  }

  async folder(name: string): Promise<string> {
    await mkdir(this.path(name), { recursive: true });
    return this.path(name);
  }

  /** A new key with a certificate of its own, valid for a day from now or at the times given (YYMMDDHHMMSSZ). */
  async pair(curve: string, times?: { readonly from: string; readonly to: string }): Promise<SigningPair> {
    this.#count += 1;
    const key = this.path(`key-${this.#count}.pem`);
    const { stdout } = await run("openssl", ["ecparam", "-name", curve, "-genkey", "-noout"]);
    await writeFile(key, stdout);
    const subject = ["-subj", "/CN=signer/O=example"];
    if (times === undefined) {
      const made = await run("openssl", ["req", "-x509", "-new", "-key", key, ...subject, "-days", "1"]);
      return { certificatePem: made.stdout, privateKeyPem: stdout };
    }
    return { certificatePem: await this.#datedCertificate(key, subject, times), privateKeyPem: stdout };
  }

  /** OpenSSL 3.0 takes dates only in its own authority's command. */
  async #datedCertificate(
    key: string,
    subject: readonly string[],
    { from, to }: { readonly from: string; readonly to: string },
  ): Promise<string> {
    const folder = await this.folder(`ca-${this.#count}`);
    const config = join(folder, "ca.cnf");
    await writeFile(join(folder, "index.txt"), "");
    await writeFile(
      config,
      `[ca]\ndefault_ca=own\n[own]\ndatabase=${folder}/index.txt\nnew_certs_dir=${folder}\nrand_serial=yes\n` +
        "default_md=sha384\npolicy=any\n[any]\ncommonName=supplied\norganizationName=optional\n" +
        "[req]\ndistinguished_name=name\n[name]\n",
    );
    const request = join(folder, "request.pem");
    await run("openssl", ["req", "-new", "-config", config, "-key", key, ...subject, "-out", request]);
    const made = join(folder, "certificate.pem");
    const words = ["-selfsign", "-batch", "-notext", "-keyfile", key, "-in", request, "-out", made];
    await run("openssl", ["ca", "-config", config, ...words, "-startdate", from, "-enddate", to]);
    return (await run("openssl", ["x509", "-in", made])).stdout;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.directory, { recursive: true });
  }
}

export async function openEifBed(): Promise<EifBed> {
  return new EifBed(await mkdtemp(join(tmpdir(), "eif-")));
}

export const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

/** Code of the refusal; undefined if there is none. */
export async function codeOf(act: Promise<unknown>): Promise<string | undefined> {
  try {
    await act;
    return undefined;
  } catch (error) {
    if (error instanceof KitError) return error.code;
    throw error;
  }
}

/** The checksum of the header made right again after bytes were changed. */
export function repairChecksum(image: Buffer): Buffer {
  image.writeUInt32BE(crc32(image.subarray(548), crc32(image.subarray(0, 544))), 544);
  return image;
}
