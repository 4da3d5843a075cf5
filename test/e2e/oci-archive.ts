import { createHash } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

import { runCommand } from "./testbed.ts";

/** An OCI layout of one layer that holds `directory`/rootfs, packed as a tar. @returns path of the tar */
export async function packImage(directory: string, user: string): Promise<string> {
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
