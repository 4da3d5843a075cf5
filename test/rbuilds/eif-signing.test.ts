import { execFile } from "node:child_process";
import { createHash, randomBytes, sign, X509Certificate } from "node:crypto";
import { mkdtemp, open, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect, promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { KitError } from "../../core/errors.ts";
import { readEif, requireValidSignature } from "../../rbuilds/eif/read-eif.ts";
import { encodeCbor } from "../../wire/cbor/cbor-encoder.ts";
import type { CborValue } from "../../wire/cbor/cbor-value.ts";
import {
  decodeSignatureSection,
  type EifSignature,
  encodeSignatureSection,
  signedBytesOf,
} from "../../wire/eif/signature-section.ts";
import { readIndependently } from "../independent-eif/image-reader.ts";
import { readGolden, rebuildImage } from "../independent-eif/golden-image.ts";
import { codeOf, type EifBed, openEifBed, repairChecksum, sha256, type SigningPair } from "./eif-bed.ts";

const run = promisify(execFile);
const PAST = { from: "200101000000Z", to: "210101000000Z" };
const FUTURE = { from: "450101000000Z", to: "460101000000Z" };

let bed: EifBed;
let pair: SigningPair;
beforeAll(async () => {
  bed = await openEifBed();
  pair = await bed.pair("secp384r1");
});
afterAll(() => bed[Symbol.asyncDispose]());

/** Readers at once: each flips every so many bits. */
const LANES = 4;

/** On a disk of memory where there is one. */
async function openMemoryDirectory() {
  const parent = await stat("/dev/shm").then(
    () => "/dev/shm",
    () => tmpdir(),
  );
  const path = await mkdtemp(join(parent, "eif-"));
  return { path, [Symbol.asyncDispose]: async () => await rm(path, { recursive: true }) };
}

async function signatureOf(path: string): Promise<EifSignature> {
  const section = (await readEif(path)).sections.find(({ kind }) => kind === "signature");
  if (section === undefined) throw new Error("not signed");
  const { offset, sizeBytes } = section;
  return decodeSignatureSection((await readFile(path)).subarray(offset, offset + sizeBytes));
}

/** The image with another signature section at its end, table and checksum made right. */
async function withSignature(path: string, section: Uint8Array): Promise<string> {
  const { sections } = await readEif(path);
  const last = sections.at(-1);
  if (last?.kind !== "signature") throw new Error("not signed");
  const bytes = Buffer.concat([(await readFile(path)).subarray(0, last.offset), section]);
  bytes.writeBigUInt64BE(BigInt(section.length), last.offset - 8);
  bytes.writeBigUInt64BE(BigInt(section.length), 0x11c + 8 * (sections.length - 1));
  return await bed.bytes(repairChecksum(bytes));
}

async function refusalOf(act: Promise<unknown>): Promise<KitError> {
  const error: unknown = await act.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof KitError) return error;
  throw new Error("no KitError", { cause: error });
}

describe("a signed image", () => {
  test.each([
    ["prime256v1", "ES256"],
    ["secp384r1", "ES384"],
    ["secp521r1", "ES512"],
  ])(
    "by a key on %s is read with its signature, also by a reader that shares no code",
    async (curve, algorithm) => {
      const signing = await bed.pair(curve);
      const written = await bed.write(`${curve}.eif`, { signing });
      expect(written.sha256).toBe(sha256(await readFile(written.path)));
      const description = await readEif(written.path);
      expect(description).toMatchObject({
        sha256: written.sha256,
        sizeBytes: written.sizeBytes,
        pcrs: written.pcrs,
        signature: { algorithm, state: "valid", certificate: { subject: "CN=signer, O=example" } },
      });
      requireValidSignature(description);
      const other = await readIndependently(written.path);
      expect(other.signature).toMatchObject({ algorithm, verifies: true });
      expect(other.pcrs).toEqual(written.pcrs);
      expect(other.sections.map(({ type }) => type)).toEqual([
        "kernel",
        "cmdline",
        "metadata",
        "ramdisk",
        "ramdisk",
        "signature",
      ]);
    },
  );

  test("has the registers of the same image unsigned, and PCR8 of the certificate", async () => {
    const { pcrs } = await bed.write("unsigned.eif");
    const signed = await bed.write("signed.eif", { signing: pair });
    const der = bed.path("certificate.der");
    await writeFile(bed.path("certificate.pem"), pair.certificatePem);
    await run("openssl", ["x509", "-in", bed.path("certificate.pem"), "-outform", "DER", "-out", der]);
    const digest = createHash("sha384")
      .update(await readFile(der))
      .digest();
    const PCR8 = createHash("sha384").update(Buffer.alloc(48)).update(digest).digest("hex");
    expect(signed.pcrs).toEqual({ ...pcrs, PCR8 });
    const { signature } = await readEif(signed.path);
    const certificate = new X509Certificate(pair.certificatePem);
    expect(signature?.certificate).toEqual({
      subject: "CN=signer, O=example",
      issuer: "CN=signer, O=example",
      notBefore: new Date(certificate.validFrom).toISOString(),
      notAfter: new Date(certificate.validTo).toISOString(),
      fingerprintSha256: createHash("sha256")
        .update(await readFile(der))
        .digest("hex"),
    });
  });

  test("is refused with any one bit of it flipped", async () => {
    const { path } = await bed.write("flip.eif", {
      signing: await bed.pair("prime256v1"),
      kernel: await bed.prepare(randomBytes(64)),
      ramdisks: [[await bed.prepare("r")]],
    });
    const whole = await readFile(path);
    await using memory = await openMemoryDirectory();
    const survivors: string[] = [];
    const flip = async (first: number): Promise<void> => {
      const copy = join(memory.path, `${first}.eif`);
      await writeFile(copy, whole);
      await using file = await open(copy, "r+");
      for (let bit = first; bit < whole.length * 8; bit += LANES) {
        const position = Math.floor(bit / 8);
        const byte = whole.readUInt8(position);
        await file.write(Buffer.of(byte ^ (1 << (bit % 8))), 0, 1, position);
        const code = await codeOf(readEif(copy));
        if (code?.startsWith("E_EIF_") !== true) survivors.push(`byte ${position}, bit ${bit % 8}: ${code}`);
        await file.write(Buffer.of(byte), 0, 1, position);
      }
      expect(await codeOf(readEif(copy))).toBeUndefined();
    };
    await Promise.all(Array.from({ length: LANES }, async (_, first) => await flip(first)));
    expect(survivors).toEqual([]);
  });

  test("is refused with any measured or signed bit flipped, though the checksum was made right again", async () => {
    const { path } = await bed.write("mended.eif", { signing: await bed.pair("prime256v1") });
    const whole = await readFile(path);
    const { sections } = await readEif(path);
    const copy = bed.path("mended-copy.eif");
    for (const { kind, offset, sizeBytes } of sections) {
      if (kind === "metadata") continue;
      const step = kind === "signature" ? 13 : 1;
      for (let position = offset; position < offset + sizeBytes; position += step) {
        const bytes = Buffer.from(whole);
        bytes.writeUInt8(bytes.readUInt8(position) ^ (1 << (position % 7)), position);
        await writeFile(copy, repairChecksum(bytes));
        const found = await codeOf(readEif(copy));
        // The PEM text may change in ways that leave the certificate as it is.
        if (found === undefined) expect((await readEif(copy)).signature?.state).toBe("valid");
        if (kind !== "signature")
          expect(found, `byte ${position} of ${kind}`).toMatch(/^E_EIF_(SIGNATURE|INVALID)$/);
      }
    }
  });

  test("with the signature of another image is refused", async () => {
    const ours = await bed.write("ours.eif", { signing: pair });
    const other = await bed.write("other.eif", {
      signing: pair,
      commandLine: "quiet panic=30 console=ttyS0 x",
    });
    const [bytes, from] = [await readFile(ours.path), await readFile(other.path)];
    const [last, lastOther] = [
      (await readEif(ours.path)).sections.at(-1),
      (await readEif(other.path)).sections.at(-1),
    ];
    if (last === undefined || lastOther === undefined) throw new Error("no sections");
    const swapped = Buffer.concat([
      bytes.subarray(0, last.offset - 12),
      from.subarray(lastOther.offset - 12),
    ]);
    swapped.writeBigUInt64BE(BigInt(lastOther.sizeBytes), 0x11c + 8 * 5);
    const path = await bed.bytes(repairChecksum(swapped));
    const refusal = await refusalOf(readEif(path));
    expect(refusal.code).toBe("E_EIF_SIGNATURE");
    expect(refusal.message).toContain(other.pcrs.PCR0);
  });

  test("with a certificate of somebody else's is refused, though the signature is of this image", async () => {
    const { path, pcrs } = await bed.write("swapped.eif", { signing: pair });
    const { algorithm, signature } = await signatureOf(path);
    const same = { algorithm, signature, pcr0: Buffer.from(pcrs.PCR0, "hex") };
    const signedBy = async (certificatePem: string): Promise<string> =>
      await withSignature(path, encodeSignatureSection({ ...same, certificatePem }));
    expect((await readEif(await signedBy(pair.certificatePem))).pcrs.PCR8).toBeDefined();
    const other = await bed.pair("secp384r1");
    await expect(readEif(await signedBy(other.certificatePem))).rejects.toMatchObject({
      code: "E_EIF_SIGNATURE",
      message: "the signature of the image is not by the key of its certificate",
    });
    const smaller = await bed.pair("prime256v1");
    await expect(readEif(await signedBy(smaller.certificatePem))).rejects.toMatchObject({
      code: "E_EIF_SIGNATURE",
      message: "the signature of the image is ES384, and its certificate has another key",
    });
    for (const certificatePem of ["", "no certificate", pair.privateKeyPem])
      expect(await codeOf(readEif(await signedBy(certificatePem)))).toBe("E_EIF_SIGNATURE");
  });

  test("by another algorithm than the certificate's curve is for is refused", async () => {
    const { path, pcrs } = await bed.write("algorithm.eif", { signing: pair });
    const pcr0 = Buffer.from(pcrs.PCR0, "hex");
    for (const [algorithm, hash, code] of [
      ["ES384", "sha384", undefined],
      ["ES384", "sha256", "E_EIF_SIGNATURE"],
      ["ES256", "sha256", "E_EIF_SIGNATURE"],
      ["ES512", "sha512", "E_EIF_SIGNATURE"],
    ] as const) {
      const key = { key: pair.privateKeyPem, dsaEncoding: "ieee-p1363" } as const;
      const signature = sign(hash, signedBytesOf(algorithm, pcr0), key);
      const section = encodeSignatureSection({ ...pair, algorithm, pcr0, signature });
      expect(await codeOf(readEif(await withSignature(path, section))), `${algorithm} ${hash}`).toBe(code);
    }
  });

  test("is refused where the signature is right, but of another register or of no register", async () => {
    const { path, pcrs } = await bed.write("register.eif", { signing: pair });
    const pcr0 = [...Buffer.from(pcrs.PCR0, "hex")];
    const cases: [payload: CborValue, code: string | undefined][] = [
      [register(0, pcr0), undefined],
      [register(1, pcr0), "E_EIF_SIGNATURE"],
      [register(-1, pcr0), "E_EIF_SIGNATURE"],
      [register(2n ** 63n, pcr0), "E_EIF_SIGNATURE"],
      [register(0, pcr0.slice(1)), "E_EIF_SIGNATURE"],
      [register(0, [...pcr0, 0]), "E_EIF_SIGNATURE"],
      [
        register(
          0,
          pcr0.map((byte) => byte + 256),
        ),
        "E_EIF_SIGNATURE",
      ],
      [register(0, pcrs.PCR0), "E_EIF_SIGNATURE"],
      [new Map([...register(0, pcr0), ["more", 1]]), "E_EIF_SIGNATURE"],
      [new Map(), "E_EIF_SIGNATURE"],
      [pcr0, "E_EIF_SIGNATURE"],
    ];
    for (const [index, [payload, code]] of cases.entries())
      expect(await codeOf(readEif(await withSignature(path, signByHand(payload)))), `case ${index}`).toBe(
        code,
      );
  });

  function register(index: number | bigint, value: CborValue): Map<string, CborValue> {
    return new Map<string, CborValue>([
      ["register_index", index],
      ["register_value", value],
    ]);
  }

  /** A signature section by `pair` over any payload. */
  function signByHand(value: CborValue): Buffer {
    const [head, payload] = [encodeCbor(new Map([[1, -35]])), encodeCbor(value)];
    const signed = encodeCbor(["Signature1", head, new Uint8Array(), payload]);
    const signature = sign("sha384", signed, { key: pair.privateKeyPem, dsaEncoding: "ieee-p1363" });
    const entry = new Map<string, CborValue>([
      ["signing_certificate", [...Buffer.from(pair.certificatePem)]],
      ["signature", [...encodeCbor([head, new Map(), payload, signature])]],
    ]);
    return encodeCbor([entry]);
  }

  test("of AWS's own tool is read", async () => {
    const golden = await readGolden();
    for (const image of golden.images) {
      const description = await readEif(await bed.bytes(rebuildImage(golden, image)));
      expect(description).toMatchObject({ sha256: image.sha256, pcrs: image.pcrs, warnings: [] });
      expect(description.signature !== null, image.name).toBe(image.signature !== undefined);
      if (image.signature === undefined) continue;
      const state = image.signature.awsRunTimeCheck === "ok" ? "valid" : "expired";
      expect(description.signature?.state, image.name).toBe(state);
    }
  });
});

describe("a certificate's time", () => {
  test("that is over is said by the reader, and refused where a valid signature is asked for", async () => {
    const signing = await bed.pair("secp384r1", PAST);
    const { path } = await bed.write("expired.eif", { signing }, new Date("2020-06-01"));
    const description = await readEif(path);
    expect(description.signature?.state).toBe("expired");
    expect(() => requireValidSignature(description)).toThrow("2021-01-01T00:00:00.000Z");
    expect(await codeOf(Promise.resolve(description).then(requireValidSignature))).toBe(
      "E_EIF_CERTIFICATE_EXPIRED",
    );
    expect((await readEif(path, { at: new Date("2020-06-01") })).signature?.state).toBe("valid");
    expect((await readEif(path, { at: new Date("2021-01-01T00:00:00Z") })).signature?.state).toBe("valid");
    expect((await readEif(path, { at: new Date("2021-01-01T00:00:01Z") })).signature?.state).toBe("expired");
    expect((await readEif(path, { at: new Date("2019-12-31T23:59:59Z") })).signature?.state).toBe(
      "not-yet-valid",
    );
  });

  test("that is over, or has not begun, is refused when an image is to be signed", async () => {
    const expired = bed.write("a.eif", { signing: await bed.pair("secp384r1", PAST) });
    expect(await codeOf(expired)).toBe("E_EIF_CERTIFICATE_EXPIRED");
    const future = bed.write("a.eif", { signing: await bed.pair("secp384r1", FUTURE) });
    expect(await codeOf(future)).toBe("E_EIF_CERTIFICATE_NOT_YET_VALID");
  });

  test("that has not begun is refused where a valid signature is asked for", async () => {
    const signing = await bed.pair("secp384r1", FUTURE);
    const { path } = await bed.write("future.eif", { signing }, new Date("2045-06-01"));
    const description = await readEif(path);
    expect(await codeOf(Promise.resolve(description).then(requireValidSignature))).toBe(
      "E_EIF_CERTIFICATE_NOT_YET_VALID",
    );
  });

  test("is of no matter where there is no signature: that is refused as such", async () => {
    const description = await readEif((await bed.write("none.eif")).path);
    expect(await codeOf(Promise.resolve(description).then(requireValidSignature))).toBe("E_EIF_NOT_SIGNED");
  });
});

describe("a key that cannot sign", () => {
  test("is refused, and nothing of it is in the message", async () => {
    const other = await bed.pair("secp384r1");
    const k1 = await bed.pair("secp256k1");
    const { stdout: rsa } = await run("openssl", ["genrsa", "2048"]);
    const { stdout: ed25519 } = await run("openssl", ["genpkey", "-algorithm", "ed25519"]);
    await writeFile(bed.path("plain.pem"), pair.privateKeyPem);
    const words = ["ec", "-in", bed.path("plain.pem"), "-aes256", "-passout", "pass:secret"];
    const { stdout: encrypted } = await run("openssl", words);
    const wrong: SigningPair[] = [
      { ...pair, privateKeyPem: other.privateKeyPem },
      { ...pair, privateKeyPem: rsa },
      { ...pair, privateKeyPem: ed25519 },
      { ...pair, privateKeyPem: encrypted },
      { ...pair, privateKeyPem: pair.certificatePem },
      { ...pair, privateKeyPem: pair.privateKeyPem.slice(0, 200) },
      { ...pair, privateKeyPem: pair.privateKeyPem.replaceAll("M", "N") },
      { ...pair, privateKeyPem: "a secret that is no key at all\n" },
      { ...pair, privateKeyPem: "" },
      { ...pair, certificatePem: pair.privateKeyPem },
      { ...pair, certificatePem: "" },
      k1,
    ];
    await bed.folder("unsigned");
    for (const [index, signing] of wrong.entries()) {
      const refusal = await refusalOf(bed.write("unsigned/a.eif", { signing }));
      expect(refusal.code, `key ${index}`).toBe("E_EIF_SIGNING_KEY");
      const text = inspect(refusal, { depth: null, showHidden: true });
      for (const line of signing.privateKeyPem.split("\n").filter((each) => each.length > 20))
        expect(text).not.toContain(line);
    }
    expect(await bed.names("unsigned")).toEqual([]);
  });
});
