import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { openTestbed, ROOT, runCommand, type Testbed, waitFor } from "./testbed.ts";

const isRoot = process.getuid?.() === 0;
let directory: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "foreign-"));
  const source = join(ROOT, "test", "fixtures", "e2e", "report.c");
  await mkdir(join(directory, "rootfs", "srv"), { recursive: true });
  await runCommand(["cc", "-static", "-O1", "-o", join(directory, "rootfs", "report"), source]);
});
afterAll(() => rm(directory, { recursive: true }));

/** Brings `yaml` up and waits until the program has said everything. */
async function reportOf(bed: Testbed, name: string, yaml: string): Promise<string> {
  const path = join(directory, `${name}.yaml`);
  await writeFile(path, `name: ${name}\nmode: development\nresources: { memory: 512MiB }\n${yaml}`);
  await bed.succeed("up", path, "-d");
  return await waitFor("the report", async () => {
    const text = await bed.succeed("logs", name, "--service", name);
    return text.includes("ids ") ? text : undefined;
  });
}

/** An OCI layout of one layer that holds the root file system, packed as a tar. */
async function packImage(user: string): Promise<string> {
  const layout = join(directory, "layout");
  const blobs = join(layout, "blobs", "sha256");
  await mkdir(blobs, { recursive: true });
  const layerPath = join(directory, "layer.tar");
  await runCommand(["tar", "-C", join(directory, "rootfs"), "--owner=0", "--group=0", "-cf", layerPath, "."]);
  const plain = await readFile(layerPath);
  const digestOf = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
  const addBlob = async (bytes: Uint8Array, mediaType: string): Promise<Record<string, unknown>> => {
    await writeFile(join(blobs, digestOf(bytes)), bytes);
    return { mediaType, digest: `sha256:${digestOf(bytes)}`, size: bytes.length };
  };
  const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
  const architecture = process.arch === "x64" ? "amd64" : "arm64";
  const config = json({
    os: "linux",
    architecture,
    config: {
      Entrypoint: ["/report"],
      Cmd: ["from", "cmd"],
      Env: ["GREETING=of the image"],
      WorkingDir: "/srv",
      User: user,
    },
    rootfs: { type: "layers", diff_ids: [`sha256:${digestOf(plain)}`] },
  });
  const manifest = json({
    schemaVersion: 2,
    config: await addBlob(config, "application/vnd.oci.image.config.v1+json"),
    layers: [await addBlob(gzipSync(plain), "application/vnd.oci.image.layer.v1.tar+gzip")],
  });
  const descriptor = await addBlob(manifest, "application/vnd.oci.image.manifest.v1+json");
  await writeFile(join(layout, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
  await writeFile(join(layout, "index.json"), json({ schemaVersion: 2, manifests: [descriptor] }));
  const archive = join(directory, "image.tar");
  await runCommand(["tar", "-C", layout, "-cf", archive, "."]);
  return archive;
}

describe("images that are not Debian's, with not even a C library of their own", () => {
  test("an OCI image runs its ENTRYPOINT and CMD with its ENV, WORKDIR and USER", async () => {
    await using bed = await openTestbed();
    const archive = await packImage(isRoot ? "1000:50" : "0");
    const report = await reportOf(bed, "fromoci", `image: { base: { oci: ${archive} } }\n`);
    for (const line of [
      "argument /report",
      "argument from",
      "argument cmd",
      "greeting of the image",
      "directory /srv",
    ]) {
      expect(report).toContain(line);
    }
    expect(report).toContain(isRoot ? "ids 1000 50" : "ids 0 0");
  });

  test("services of the YAML say otherwise where they do", async () => {
    await using bed = await openTestbed();
    const archive = await packImage("0");
    const services = `services: { changed: { command: [other], working_dir: /, environment: { GREETING: mine } } }\n`;
    const report = await reportOf(bed, "changed", `image: { base: { oci: ${archive} } }\n${services}`);
    for (const line of ["argument /report", "argument other", "greeting mine", "directory /"])
      expect(report).toContain(line);
    expect(report).not.toContain("argument cmd");
  });

  test("a directory is a root file system as it is", async () => {
    await using bed = await openTestbed();
    const base = `image: { base: { directory: ${join(directory, "rootfs")} } }\n`;
    const report = await reportOf(bed, "fromdir", `${base}services: { fromdir: { command: [/report] } }\n`);
    expect(report).toContain("argument /report");
    expect(report).toContain("greeting none");
  });

  test("the host's own programs, for development", async () => {
    await using bed = await openTestbed();
    const services = `services: { fromhost: { command: [sh, -c, "echo ids $(id -u) $(id -g); exec sleep 1000"] } }\n`;
    const report = await reportOf(bed, "fromhost", `image: { base: host }\n${services}`);
    expect(report).toMatch(isRoot ? /ids (6[1-3]\d{3}) \1/ : /ids 0 0/);
  });
});
