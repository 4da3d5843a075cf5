import { execFile } from "node:child_process";
import { copyFile, readFile, rename, rm, writeFile } from "node:fs/promises";
import { promisify } from "node:util";
import { zstdCompressSync } from "node:zlib";

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";

import { assembleImage, TYPES } from "../independent-eif/hand-assembly.ts";
import { readIndependently } from "../independent-eif/image-reader.ts";
import { readRamdiskStreams } from "../independent-eif/ramdisk-lister.ts";
import { type Built, type ImageBed, openImageBed } from "./image-testbed.ts";

const FIRST_BUILD_MS = 2_400_000;
const SECTION_HEADER_BYTES = 12;

let bed: ImageBed;
let yaml = "";
let built: Built;

beforeAll(async () => {
  bed = await openImageBed();
  yaml = await bed.project("hello");
  built = await bed.build(yaml, bed.path("hello.eif"));
}, FIRST_BUILD_MS);
afterAll(async () => await bed[Symbol.asyncDispose]());

const Verified = z.object({
  same: z.boolean(),
  differences: z.array(
    z.object({
      part: z.string(),
      path: z.string(),
      attribute: z.string(),
      expected: z.string(),
      actual: z.string(),
    }),
  ),
});

describe("verify-image", () => {
  test("says that an image is what project and lock give", async () => {
    const { status, stdout } = await verify(built.eif);
    expect(status).toBe(0);
    expect(stdout).toContain("is what");
  });

  test("finds one changed mode bit and names the file", async () => {
    const changed = bed.path("changed.eif");
    await changeMode("rootfs/app/server.js", changed);
    const { status, stdout } = await verify(changed, "--json");
    expect(status).toBe(1);
    expect(Verified.parse(JSON.parse(stdout))).toEqual({
      same: false,
      differences: [
        {
          part: "ramdisk 1",
          path: "rootfs/app/server.js",
          attribute: "mode",
          expected: "0644",
          actual: "0645",
        },
      ],
    });
    const told = await verify(changed);
    expect(told.stdout).toContain("ramdisk 1: rootfs/app/server.js: mode: expected 0644, found 0645");
    expect(told.stderr).toContain("E_VERIFY_DIFFERENT");
  });

  test("finds another command line, and does not mind a signature", async () => {
    const key = bed.path("key.pem");
    const certificate = bed.path("cert.pem");
    await makeCertificate(key, certificate);
    const signed = bed.path("signed.eif");
    const flags = ["--signing-certificate", certificate, "--private-key", key];
    const { pcrs, sha256 } = await bed.build(yaml, signed, { flags });
    expect(sha256).not.toBe(built.sha256);
    expect(pcrs).toMatchObject({ ...built.pcrs, PCR8: expect.stringMatching(/^[0-9a-f]{96}$/) });
    expect((await verify(signed)).status).toBe(0);
    const inspected = await bed.pipeline(["inspect", signed, "--json"]);
    expect(JSON.parse(inspected.stdout)).toMatchObject({
      signature: { state: "valid", algorithm: "ES384" },
      pcrs,
      kernelVersion: expect.stringMatching(/^6\.12\.\d+-enclave$/),
    });

    await bed.pipeline(["build", yaml, ...flags, "--tag", "signed:1"]);
    const images: unknown = JSON.parse((await bed.pipeline(["images", "--json"])).stdout);
    expect(images).toMatchObject([{ tags: ["signed:1"], name: "hello", signedBy: "CN=signer", pcrs }]);

    const other = bed.path("other.eif");
    await rewrite(other, (type, data) =>
      type === TYPES.cmdline ? Buffer.concat([data, Buffer.from(" quiet")]) : data,
    );
    const { stdout, status } = await verify(other, "--json");
    expect(status).toBe(1);
    expect(Verified.parse(JSON.parse(stdout)).differences).toMatchObject([{ part: "command line" }]);

    await rewrite(other, (type, data) =>
      type === TYPES.metadata ? Buffer.concat([data, Buffer.from("\n")]) : data,
    );
    const spaced = await verify(other, "--json");
    expect(Verified.parse(JSON.parse(spaced.stdout)).differences).toMatchObject([
      { part: "metadata", attribute: "bytes" },
    ]);
  });

  test("finds bytes that no section holds: a flag that nobody knows", async () => {
    const flagged = bed.path("flagged.eif");
    await rewrite(flagged, (_type, data) => data, 0x240);
    const { status, stdout } = await verify(flagged, "--json");
    expect(status).toBe(1);
    expect(Verified.parse(JSON.parse(stdout)).differences).toEqual([
      { part: "header", path: "", attribute: "warnings", expected: "", actual: "unknown flags 0x240" },
    ]);
  });

  test("refuses to compare without a lock, and with one of other inputs", async () => {
    await rename(built.lock, `${built.lock}.away`);
    const without = await verify(built.eif);
    expect(without.stderr).toContain("E_LOCK_MISSING");
    expect(without.status).toBe(2);
    const text = await readFile(`${built.lock}.away`, "utf8");
    await writeFile(built.lock, text.replace(/"supervisor": "[0-9a-f]{8}/, '"supervisor": "00000000'));
    const stale = await verify(built.eif);
    expect(stale.stderr).toContain("E_LOCK_STALE");
    expect(stale.stderr).toContain("toolkit: supervisor 00000000");
    await rm(built.lock);
    await rename(`${built.lock}.away`, built.lock);
  });
});

describe("inspect", () => {
  test("lists every file, and refuses a damaged image with one code", async () => {
    const tree = await bed.pipeline(["inspect", built.eif, "--tree"]);
    expect(tree.stdout).toMatch(/file +0755 0:0 +\d+ init\n/);
    expect(tree.stdout).toMatch(/file +0644 0:0 +\d+ rootfs\/app\/server\.js\n/);
    const damaged = bed.path("damaged.eif");
    await copyFile(built.eif, damaged);
    const bytes = await readFile(damaged);
    bytes.writeUInt8(bytes.readUInt8(5_000_000) ^ 0x10, 5_000_000);
    await writeFile(damaged, bytes);
    const { status, stderr } = await bed.pipeline(["inspect", damaged]);
    expect(stderr).toContain("E_EIF_CRC");
    expect(status).toBe(3);
  });
});

describe("lock", () => {
  test("is written by build, found up to date, and tells what an update changes", async () => {
    const project = await bed.project("hello", "locked");
    const refused = await bed.pipeline(["build", project, "--locked", "-o", bed.path("x.eif")]);
    expect(refused.stderr).toContain("E_LOCK_MISSING");
    expect((await bed.pipeline(["lock", project])).stdout).toContain("wrote ");
    expect((await bed.pipeline(["lock", project])).stdout).toContain("is up to date");
    const path = bed.path("locked", "enclave.lock");
    const lock = await readFile(path, "utf8");
    const older = lock.replace(/("name":"libc6","version":")[^"]+/, "$12.36-1");
    await writeFile(path, older);
    const build = await bed.pipeline(["build", project, "-o", bed.path("x.eif")]);
    // The archive of that digest is cached, so only its name is wrong; the build obeys digests.
    expect(build.status).toBe(0);
    const update = await bed.pipeline(["lock", project, "--update"]);
    expect(update.stdout).toMatch(/packages: libc6 2\.36-1 \([0-9a-f]{12}\) -> \S+ \([0-9a-f]{12}\)/);
    expect(await readFile(path, "utf8")).toBe(lock);
  });

  test("with a version that is gone is refused with both versions and what to do", async () => {
    const project = await bed.project("hello", "gone");
    await bed.pipeline(["lock", project]);
    const path = bed.path("gone", "enclave.lock");
    const lock = await readFile(path, "utf8");
    const gone = /("name":"dash","version":")[^"]+("[^}]*"sha256":")[0-9a-f]{64}/;
    await writeFile(path, lock.replace(gone, `$10.1-1$2${"0".repeat(64)}`));
    const { status, stderr } = await bed.pipeline(["build", project, "-o", bed.path("gone.eif")]);
    expect(stderr).toContain("E_LOCK_UNAVAILABLE");
    expect(stderr).toMatch(/dash 0\.1-1.*version \d/);
    expect(stderr).toMatch(/hint: .*lock --update/);
    expect(status).not.toBe(0);
  });

  test("for other packages than the YAML asks for is refused", async () => {
    const project = await bed.project("hello", "grown");
    await bed.pipeline(["lock", project]);
    const text = await readFile(project, "utf8");
    await writeFile(project, text.replace("debian: []", "debian: [redis-server]"));
    const { stderr } = await bed.pipeline(["build", project, "-o", bed.path("grown.eif")]);
    expect(stderr).toContain("E_LOCK_STALE");
    expect(stderr).toContain("base: debian");
  });
});

async function verify(eif: string, ...flags: readonly string[]) {
  return await bed.pipeline(["verify-image", eif, "--from", yaml, ...flags]);
}

async function makeCertificate(key: string, certificate: string): Promise<void> {
  const run = promisify(execFile);
  await run("openssl", ["ecparam", "-name", "secp384r1", "-genkey", "-noout", "-out", key]);
  await run("openssl", [
    "req",
    "-new",
    "-x509",
    "-key",
    key,
    "-subj",
    "/CN=signer",
    "-days",
    "2",
    "-out",
    certificate,
  ]);
}

/** A copy of the image, put together by hand, with other data in some sections. */
async function rewrite(
  output: string,
  change: (type: number, data: Buffer, index: number) => Buffer,
  headerFlags = 0,
): Promise<void> {
  const { sections } = await readIndependently(built.eif);
  const bytes = await readFile(built.eif);
  const parts = sections.map(({ type, offset, sizeBytes }, index) => {
    const start = offset + SECTION_HEADER_BYTES;
    const number = TYPES[type];
    return { type: number, data: change(number, bytes.subarray(start, start + sizeBytes), index) };
  });
  await writeFile(output, assembleImage({ sections: parts, flags: headerFlags }));
}

/** Sets the last bit of a file's mode in the second ramdisk, whose archives are compressed anew. */
async function changeMode(path: string, output: string): Promise<void> {
  const { ramdisks, sections } = await readIndependently(built.eif);
  const application = ramdisks[1];
  if (application === undefined) throw new Error("two ramdisks were expected");
  const streams = await readRamdiskStreams(built.eif, application.offset, application.sizeBytes);
  const frames = streams.map(({ content }) => zstdCompressSync(withBit(content, path)));
  const last = sections.length - 1;
  await rewrite(output, (_type, data, index) => (index === last ? Buffer.concat(frames) : data));
}

/** A header of newc has 110 bytes before the name; characters 14 to 21 are the mode. */
function withBit(archive: Buffer, path: string): Buffer {
  const name = archive.indexOf(`${path}\0`);
  if (name === -1) return archive;
  const changed = Buffer.from(archive);
  const mode = Number.parseInt(changed.toString("latin1", name - 96, name - 88), 16);
  changed.write((mode | 1).toString(16).padStart(8, "0"), name - 96, "latin1");
  return changed;
}
