import { execFile } from "node:child_process";
import { createHash, X509Certificate } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { KitError } from "../../core/errors.ts";
import { readEif, requireValidSignature } from "../../rbuilds/eif/read-eif.ts";
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

  test("is refused with any bit of it flipped", async () => {
    const { path } = await bed.write("flip.eif", { signing: await bed.pair("prime256v1") });
    const whole = await readFile(path);
    const copy = bed.path("flipped.eif");
    for (let position = 0; position < whole.length; position++) {
      const bytes = Buffer.from(whole);
      bytes.writeUInt8(bytes.readUInt8(position) ^ (1 << (position % 8)), position);
      await writeFile(copy, bytes);
      expect(await codeOf(readEif(copy)), `byte ${position}`).toMatch(/^E_EIF_/);
    }
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
      { ...pair, certificatePem: pair.privateKeyPem },
      { ...pair, certificatePem: "" },
      k1,
    ];
    await bed.folder("unsigned");
    for (const [index, signing] of wrong.entries()) {
      const refusal = await refusalOf(bed.write("unsigned/a.eif", { signing }));
      expect(refusal.code, `key ${index}`).toBe("E_EIF_SIGNING_KEY");
      const text = `${refusal.message} ${String(refusal.cause)} ${JSON.stringify(refusal.details)}`;
      for (const line of signing.privateKeyPem.split("\n").filter((each) => each.length > 20))
        expect(text).not.toContain(line);
    }
    expect(await bed.names("unsigned")).toEqual([]);
  });
});
