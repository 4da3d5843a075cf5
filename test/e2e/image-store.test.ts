import { spawn } from "node:child_process";
import { createReadStream } from "node:fs";
import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { z } from "zod";

import { assembleImage, firstSections, ramdisk, TYPES } from "../independent-eif/hand-assembly.ts";
import { readIndependently } from "../independent-eif/image-reader.ts";
import { makeArchive } from "../rbuilds/saved-images.ts";
import { sha256 } from "../rbuilds/store-bed.ts";
import { openTestbed, runCommand, type Testbed, waitFor } from "./testbed.ts";

const ImageJson = z.object({
  digest: z.string(),
  tags: z.array(z.string()),
  sizeBytes: z.number(),
  pcrs: z.record(z.string(), z.string()),
  name: z.string(),
  mode: z.string(),
  createdAt: z.string(),
  hasProvenance: z.boolean(),
  eif: z.string(),
  provenance: z.string().nullable(),
});
const ErrorJson = z.object({ error: z.object({ code: z.string(), hint: z.string() }) });

/** A real image file of that size, put together by hand, with what its measurements are. */
async function makeImage(
  sizeBytes: number,
): Promise<{ readonly eif: Buffer; readonly info: { readonly pcrs: Record<string, string> } }> {
  const sections = firstSections();
  const rest = sizeBytes - assembleImage({ sections: [...sections, ramdisk("")] }).length;
  const eif = assembleImage({ sections: [...sections, { type: TYPES.ramdisk, data: randomBytes(rest) }] });
  const directory = await mkdtemp(join(tmpdir(), "made-"));
  try {
    await writeFile(join(directory, "image.eif"), eif);
    return { eif, info: { pcrs: { ...(await readIndependently(join(directory, "image.eif"))).pcrs } } };
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** A testbed with a directory for archives beside its state. */
async function openBed(): Promise<
  { bed: Testbed; file: (name: string, bytes?: Uint8Array) => Promise<string> } & AsyncDisposable
> {
  const bed = await openTestbed();
  const directory = `${bed.stateDir}-files`;
  await mkdir(directory);
  return {
    bed,
    file: async (name, bytes) => {
      const path = join(directory, name);
      if (bytes !== undefined) await writeFile(path, bytes);
      return path;
    },
    [Symbol.asyncDispose]: async () => {
      await rm(directory, { recursive: true });
      await bed[Symbol.asyncDispose]();
    },
  };
}

async function listImages(bed: Testbed): Promise<z.infer<typeof ImageJson>[]> {
  return z.array(ImageJson).parse(JSON.parse(await bed.succeed("images", "--json")));
}

describe("images of the local store", () => {
  test("are loaded, listed, tagged, saved, loaded elsewhere and removed", async () => {
    await using from = await openBed();
    await using to = await openBed();
    const { eif, info } = await makeImage(2_000_000);
    const digest = sha256(eif);
    const archive = await from.file(
      "made.tar",
      makeArchive([{ eif, info, tags: ["counter:1"], provenance: Buffer.from("{}") }]),
    );
    expect(await from.bed.succeed("images")).toBe("NAME  TAG  DIGEST  SIZE  MODE  CREATED\n");
    expect(await from.bed.succeed("load", "-i", archive)).toBe(`loaded sha256:${digest} counter:1\n`);
    const rows = (await from.bed.succeed("images")).split("\n");
    expect(rows[1]).toMatch(
      new RegExp(`^counter  1    ${digest.slice(0, 12)}  1.91 MiB  development  \\d+s ago$`),
    );
    expect(await from.bed.succeed("images", "--no-trunc")).toContain(`sha256:${digest}`);

    expect(await from.bed.succeed("tag", digest.slice(0, 8), "team/counter:stable")).toBe("");
    const [image] = await listImages(from.bed);
    expect(image).toMatchObject({
      digest: `sha256:${digest}`,
      tags: ["counter:1", "team/counter:stable"],
      sizeBytes: 2_000_000,
      hasProvenance: true,
    });
    expect(await readFile(image?.eif ?? "")).toEqual(eif);

    const saved = await from.file("saved.tar");
    const json: unknown = JSON.parse(
      await from.bed.succeed("save", "team/counter:stable", "-o", saved, "--json"),
    );
    expect(json).toEqual({
      file: saved,
      sizeBytes: (await readFile(saved)).length,
      images: [{ digest: `sha256:${digest}`, tags: ["team/counter:stable"] }],
    });
    await to.bed.succeed("load", "--input", saved);
    expect((await listImages(to.bed)).map(({ tags }) => tags)).toEqual([["team/counter:stable"]]);
    const again = await to.file("again.tar");
    await to.bed.succeed("save", "team/counter:stable", "--output", again);
    expect((await readFile(again)).equals(await readFile(saved))).toBe(true);

    expect(await from.bed.succeed("rmi", "counter:1")).toBe("untagged counter:1\n");
    expect(await from.bed.succeed("rmi", "team/counter:stable")).toBe(
      `untagged team/counter:stable\ndeleted sha256:${digest}\n`,
    );
    expect(await listImages(from.bed)).toEqual([]);
  });

  test("are refused where an archive tells other measurements than they have", async () => {
    await using made = await openBed();
    const { eif, info } = await makeImage(100_000);
    const pcrs = { ...info.pcrs, PCR0: "0".repeat(96) };
    const archive = await made.file("made.tar", makeArchive([{ eif, info: { pcrs }, tags: ["a"] }]));
    const { status, stderr } = await made.bed.run("load", "-i", archive);
    expect(stderr).toContain("E_STORE_DIGEST");
    expect(status).toBe(2);
    expect(await listImages(made.bed)).toEqual([]);
  });

  test("go from one store to another through a pipe", async () => {
    await using from = await openBed();
    await using to = await openBed();
    const { eif, info } = await makeImage(3_000_000);
    await from.bed.succeed(
      "load",
      "-i",
      await from.file("made.tar", makeArchive([{ eif, info, tags: ["a"] }])),
    );
    const quote = (words: readonly string[]): string => words.map((word) => `'${word}'`).join(" ");
    const line = `${quote(from.bed.commandLine(["save", "a"]))} | ${quote(to.bed.commandLine(["load", "--json"]))}`;
    const { status, stdout, stderr } = await runCommand(["sh", "-c", line]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    const [image] = z.array(ImageJson).parse(JSON.parse(stdout));
    expect(image).toMatchObject({ digest: `sha256:${sha256(eif)}`, tags: ["a:latest"] });
  });

  test("are pruned when they have no tag, and it is told what went", async () => {
    await using made = await openBed();
    const { bed } = made;
    const { eif, info } = await makeImage(1000);
    await bed.succeed(
      "load",
      "-i",
      await made.file(
        "made.tar",
        makeArchive([
          { eif, info, tags: [] },
          { ...(await makeImage(2000)), tags: ["kept"] },
        ]),
      ),
    );
    expect(await bed.succeed("images")).toContain(`<none>  <none>  ${sha256(eif).slice(0, 12)}`);
    const pruned: unknown = JSON.parse(await bed.succeed("images", "--prune", "--json"));
    expect(pruned).toMatchObject({ untagged: [], deleted: [`sha256:${sha256(eif)}`], abandoned: 0 });
    expect((await listImages(bed)).map(({ tags }) => tags)).toEqual([["kept:latest"]]);
    expect(await bed.succeed("images", "--prune")).toBe("freed 0 B\n");
  });

  test("refusals have their exit status, and --json tells them as JSON", async () => {
    await using made = await openBed();
    const { bed } = made;
    const archive = await made.file(
      "made.tar",
      makeArchive([{ ...(await makeImage(2000)), tags: ["counter:1", "counter:2"] }]),
    );
    const broken = await made.file("broken.tar", (await readFile(archive)).subarray(0, 2500));
    await bed.succeed("load", "-i", archive);
    const [image] = await listImages(bed);
    const refusals: readonly (readonly [readonly string[], string, number])[] = [
      [["rmi", "countr:1"], "E_STORE_NOT_FOUND", 5],
      [["rmi", image?.digest ?? ""], "E_STORE_SEVERAL_TAGS", 6],
      [["tag", "counter:1", "No Name"], "E_STORE_REFERENCE", 2],
      [["tag", "absent", "b"], "E_STORE_NOT_FOUND", 5],
      [["save", "absent", "-o", join(bed.stateDir, "x.tar")], "E_STORE_NOT_FOUND", 5],
      [["save", "counter:1"], "E_USAGE", 2],
      [["save", "counter:1", "-o", join(bed.stateDir, "absent", "x.tar")], "E_STORE_FILE", 5],
      [["load", "-i", join(bed.stateDir, "absent.tar")], "E_STORE_FILE", 5],
      [["load", "-i", broken], "E_STORE_ARCHIVE", 2],
      [["load"], "E_STORE_ARCHIVE", 2],
      [["images", "--prune", "--no-trunc"], "E_USAGE", 2],
    ];
    for (const [words, code, exit] of refusals) {
      const { status, stdout } = await bed.run(...words, "--json");
      expect({ status, code: ErrorJson.parse(JSON.parse(stdout)).error.code }, words.join(" ")).toEqual({
        status: exit,
        code,
      });
    }
    const { stderr } = await bed.run("rmi", "countr:1");
    expect(stderr).toContain("hint: Did you mean counter:1");
    expect((await listImages(bed)).map(({ tags }) => tags)).toEqual([["counter:1", "counter:2"]]);
    expect(await bed.succeed("rmi", "--force", image?.digest ?? "")).toContain("deleted sha256:");
  });

  test("a load that is interrupted or killed leaves no image, and the next command removes its folder", async () => {
    await using made = await openBed();
    const { bed } = made;
    const archive = await made.file(
      "made.tar",
      makeArchive([{ ...(await makeImage(4_000_000)), tags: ["a"] }]),
    );
    const temporary = join(bed.stateDir, "images", "tmp");
    for (const signal of ["SIGKILL", "SIGINT"] as const) {
      const [program, ...words] = bed.commandLine(["load"]);
      const child = spawn(program, words, { stdio: ["pipe", "ignore", "ignore"] });
      const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
      child.stdin.on("error", () => undefined);
      // Not to the end: it waits for more in the middle of the image.
      createReadStream(archive, { end: 2_000_000 }).pipe(child.stdin, { end: false });
      await waitFor("the folder of the load", async () => {
        const names = await readdir(temporary, { recursive: true }).catch(() => []);
        return names.some((name) => name.includes("/blobs/") && name.startsWith(`${child.pid}-`))
          ? true
          : undefined;
      });
      child.kill(signal);
      expect(await ended).toBe(signal === "SIGINT" ? 130 : null);
      expect(await readdir(temporary)).toHaveLength(signal === "SIGINT" ? 0 : 1);
      expect(await listImages(bed)).toEqual([]);
    }
    await bed.succeed("load", "-i", archive);
    expect(await readdir(temporary)).toEqual([]);
    expect((await listImages(bed)).map(({ tags }) => tags)).toEqual([["a:latest"]]);
  });
});
