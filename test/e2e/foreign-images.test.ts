import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { packImage } from "./oci-archive.ts";
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

describe("images that are not Debian's, with not even a C library of their own", () => {
  test("an OCI image runs its ENTRYPOINT and CMD with its ENV, WORKDIR and USER", async () => {
    await using bed = await openTestbed();
    const archive = await packImage(directory, isRoot ? "1000:50" : "0");
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
    const archive = await packImage(directory, "0");
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
