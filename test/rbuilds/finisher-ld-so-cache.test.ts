import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import fc from "fast-check";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { KitError } from "../../core/errors.ts";
import { ELF_MACHINE, readElf, readElfFile } from "../../rbuilds/elf.ts";
import { finishLdSoCache, MULTIARCH } from "../../rbuilds/finishers/ld-so-cache.ts";
import { compareLibraryNames, decodeLdSoCache, encodeLdSoCache } from "../../rbuilds/ld-so-cache.ts";
import { ARCHITECTURE, openFinishBed } from "../fixtures/rbuilds/debian-testbed.ts";
import { writeTree } from "../fixtures/rbuilds/written-tree.ts";

const run = promisify(execFile);
const PATH = "/usr/sbin:/usr/bin:/sbin:/bin";
let built: string;
let directory: string;

/** A library of which every function is `answer`, and a program that prints it. */
beforeAll(async () => {
  built = await mkdtemp(join(tmpdir(), "finisher-ld-built-"));
  await writeFile(join(built, "lib.c"), "int answer(void) { return 42; }\n");
  await writeFile(
    join(built, "main.c"),
    '#include <stdio.h>\nint answer(void);\nint main(void) { printf("%d\\n", answer()); }\n',
  );
  const library = join(built, "libanswer.so.2.5");
  await run("gcc", ["-shared", "-fPIC", "-Wl,-soname,libanswer.so.2", "-o", library, join(built, "lib.c")]);
  await run("gcc", ["-o", join(built, "main"), join(built, "main.c"), library]);
  await run("gcc", ["-shared", "-fPIC", "-o", join(built, "libplain.so"), join(built, "lib.c")]);
});
afterAll(async () => {
  await rm(built, { recursive: true, force: true });
});
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "finisher-ld-"));
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

/** Name, flags and path of each line of `ldconfig -p`, in its order. */
async function listed(cache: string): Promise<string[]> {
  const { stdout } = await run("ldconfig", ["-p", "-C", cache], { env: { PATH, LC_ALL: "C" } });
  return stdout.split("\n").filter((line) => line.startsWith("\t"));
}

describe("reading ELF files", () => {
  test("finds SONAME, needed libraries and interpreter", async () => {
    expect(await readElfFile(join(built, "libanswer.so.2.5"))).toMatchObject({
      machine: ELF_MACHINE[ARCHITECTURE],
      kind: "shared",
      dynamic: true,
      soname: "libanswer.so.2",
      interpreter: undefined,
    });
    const program = await readElfFile(join(built, "main"));
    expect(program?.needed).toEqual(["libanswer.so.2", "libc.so.6"]);
    expect(program?.interpreter).toMatch(/^\/lib.*\/ld-linux-.*\.so/);
    expect((await readElfFile(join(built, "libplain.so")))?.soname).toBeUndefined();
  });

  test("takes scripts, empty files and 32-bit files for no ELF", async () => {
    const texts = ["", "#!/bin/sh\n", "\x7fELF", "\x7fELF\x01\x01".padEnd(64, "\0")];
    for (const text of texts) {
      const path = join(directory, "file");
      await writeFile(path, text);
      expect(await readElfFile(path)).toBeUndefined();
    }
  });

  test("refuses a file that is cut anywhere before its end, or reads it", async () => {
    const bytes = await readFile(join(built, "libanswer.so.2.5"));
    for (let length = 64; length < bytes.length; length += 97) {
      try {
        await readElf(at(bytes.subarray(0, length)));
      } catch (error) {
        expect(error).toMatchObject({ code: "E_IMAGE_ELF" });
      }
    }
  });

  test("refuses any change with its own error, within bounds", async () => {
    const bytes = await readFile(join(built, "libanswer.so.2.5"));
    const changes = fc.array(fc.tuple(fc.nat(Math.min(bytes.length, 1200) - 1), fc.nat(255)), {
      maxLength: 20,
    });
    await fc.assert(
      fc.asyncProperty(changes, async (list) => {
        const changed = Buffer.from(bytes);
        for (const [offset, value] of list) if (offset > 5) changed[offset] = value;
        await readElf(at(changed)).catch((error: unknown) => expect(error).toBeInstanceOf(KitError));
      }),
      { numRuns: 300 },
    );
  });

  test.each([
    ["program headers without end", (b: Buffer) => b.writeUInt16LE(0xffff, 56)],
    ["program headers of another size", (b: Buffer) => b.writeUInt16LE(8, 54)],
    ["program headers beyond any file", (b: Buffer) => b.writeBigUInt64LE(1n << 60n, 32)],
    ["program headers beyond its end", (b: Buffer) => b.writeBigUInt64LE(1n << 30n, 32)],
  ])("refuses %s", async (_, change) => {
    const bytes = await readFile(join(built, "libanswer.so.2.5"));
    change(bytes);
    await expect(readElf(at(bytes))).rejects.toMatchObject({ code: "E_IMAGE_ELF" });
  });
});

function at(bytes: Uint8Array) {
  return (offset: number, length: number) => Promise.resolve(bytes.subarray(offset, offset + length));
}

describe("the format of ld.so.cache", () => {
  test("orders names as glibc does: digits count as numbers", () => {
    const names = ["liba.so.10", "liba.so.9", "liba.so", "libb.so.1", "liba1.so", "lib.so", "liba.so.9.1"];
    expect(names.toSorted(compareLibraryNames)).toEqual([
      "lib.so",
      "liba.so",
      "liba.so.9",
      "liba.so.9.1",
      "liba.so.10",
      "liba1.so",
      "libb.so.1",
    ]);
  });

  test("is an order: antisymmetric for any names", () => {
    const name = fc.stringMatching(/^lib[a-c0-9.]{0,8}$/);
    fc.assert(
      fc.property(name, name, (a, b) => {
        expect(Math.sign(compareLibraryNames(a, b))).toBe(-Math.sign(compareLibraryNames(b, a)) + 0);
      }),
    );
  });

  test("gives back what was encoded, in the order of the search", () => {
    const entry = fc.record({
      name: fc.stringMatching(/^lib[a-z0-9.]{1,8}$/),
      path: fc.stringMatching(/^\/[a-z/]{1,12}$/),
    });
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 30 }), (entries) => {
        const decoded = decodeLdSoCache(encodeLdSoCache(entries, ARCHITECTURE));
        expect(decoded).toEqual(entries.toSorted((a, b) => compareLibraryNames(b.name, a.name)));
      }),
    );
  });

  test("refuses any other bytes with its own error", () => {
    const valid = encodeLdSoCache([{ name: "liba.so.1", path: "/lib/liba.so.1" }], ARCHITECTURE);
    fc.assert(
      fc.property(fc.nat(valid.length - 1), fc.nat(255), fc.nat(valid.length), (offset, value, length) => {
        const bytes = Uint8Array.from(valid);
        bytes[offset] = value;
        try {
          decodeLdSoCache(bytes.subarray(0, length));
        } catch (error) {
          expect(error).toBeInstanceOf(KitError);
        }
      }),
    );
  });

  test("is read by ldconfig", async () => {
    const path = join(directory, "cache");
    const entries = [
      { name: "liba.so.9", path: "/x/liba.so.9" },
      { name: "liba.so.10", path: "/x/liba.so.10" },
    ];
    await writeFile(path, encodeLdSoCache(entries, ARCHITECTURE));
    const flags = ARCHITECTURE === "amd64" ? "libc6,x86-64" : "libc6,AArch64";
    expect(await listed(path)).toEqual([
      `\tliba.so.10 (${flags}) => /x/liba.so.10`,
      `\tliba.so.9 (${flags}) => /x/liba.so.9`,
    ]);
  });
});

describe("the cache of an image", () => {
  test("names the libraries of the configured directories, and makes a missing link of a SONAME", async () => {
    const bed = await openFinishBed(directory);
    await bed.add("/etc/ld.so.conf", "# comment\ninclude /etc/ld.so.conf.d/*.conf\n/opt/b\n");
    await bed.add("/etc/ld.so.conf.d/a.conf", "/opt/a\n");
    await bed.add("/etc/ld.so.conf.d/ignored", "/opt/ignored\n");
    const library = await readFile(join(built, "libanswer.so.2.5"));
    for (const folder of ["a", "b", "ignored"]) await bed.add(`/opt/${folder}/libanswer.so.2.5`, library);
    await bed.add("/opt/a/libscript.so", "GROUP ( libanswer.so.2 )\n");
    await bed.add("/opt/a/notes.txt", library);
    await finishLdSoCache(bed);
    const entry = bed.tree.get("/etc/ld.so.cache");
    const cache = entry?.type === "file" ? await bed.blobs.read(entry.digest, 65_536) : Buffer.alloc(0);
    expect(decodeLdSoCache(cache)).toEqual([
      { name: "libanswer.so.2", path: "/opt/a/libanswer.so.2" },
      { name: "libanswer.so.2", path: "/opt/b/libanswer.so.2" },
    ]);
    expect(bed.tree.get("/opt/a/libanswer.so.2")).toMatchObject({
      type: "symlink",
      target: "libanswer.so.2.5",
    });
  });

  test("names a directory once, whatever its names", async () => {
    const bed = await openFinishBed(directory);
    const multiarch = MULTIARCH[ARCHITECTURE];
    bed.tree.set({ type: "symlink", path: "/lib", target: "usr/lib", mode: 0o777, uid: 0, gid: 0 });
    await bed.add(`/usr/lib/${multiarch}/libanswer.so.2`, await readFile(join(built, "libanswer.so.2.5")));
    await finishLdSoCache(bed);
    const entry = bed.tree.get("/etc/ld.so.cache");
    const cache = entry?.type === "file" ? await bed.blobs.read(entry.digest, 65_536) : Buffer.alloc(0);
    expect(decodeLdSoCache(cache)).toEqual([
      { name: "libanswer.so.2", path: `/lib/${multiarch}/libanswer.so.2` },
    ]);
  });

  test("leaves a malformed library out, with a warning", async () => {
    const bed = await openFinishBed(directory);
    const bytes = await readFile(join(built, "libanswer.so.2.5"));
    bytes.writeUInt16LE(0xffff, 56);
    await bed.add("/usr/lib/libbad.so.1", bytes);
    await finishLdSoCache(bed);
    expect(bed.warnings).toEqual([expect.stringContaining("/usr/lib/libbad.so.1")]);
  });

  test("equals what ldconfig writes for the same files", async () => {
    const root = join(directory, "root");
    await mkdir(join(root, "etc"), { recursive: true });
    await mkdir(join(root, "opt/a"), { recursive: true });
    await writeFile(join(root, "etc/ld.so.conf"), "/opt/a\n");
    const library = await readFile(join(built, "libanswer.so.2.5"));
    const plain = await readFile(join(built, "libplain.so"));
    const bed = await openFinishBed(directory);
    await bed.add("/etc/ld.so.conf", "/opt/a\n");
    for (const [name, bytes] of Object.entries({
      "libanswer.so.2.5": library,
      "libplain.so": plain,
      "libother.so.1": plain,
    })) {
      await writeFile(join(root, "opt/a", name), bytes);
      await bed.add(`/opt/a/${name}`, bytes);
    }
    for (const [name, target] of [
      ["libanswer.so", "libanswer.so.2.5"],
      ["libanswer.so.2", "libanswer.so.2.5"],
    ] as const) {
      await symlink(target, join(root, "opt/a", name));
      bed.tree.set({ type: "symlink", path: `/opt/a/${name}`, target, mode: 0o777, uid: 0, gid: 0 });
    }
    await finishLdSoCache(bed);
    const entry = bed.tree.get("/etc/ld.so.cache");
    const ours = bed.blobs.path(entry?.type === "file" ? entry.digest : "");
    const oracle = join(directory, "oracle");
    await run("ldconfig", ["-X", "-r", root, "-C", "/etc/ld.so.cache"], { env: { PATH, LC_ALL: "C" } }).catch(
      () => undefined,
    );
    await writeFile(oracle, await readFile(join(root, "etc/ld.so.cache")));
    expect(await listed(ours)).toEqual(await listed(oracle));
    expect(await listed(ours)).toHaveLength(4);
  });

  test.skipIf(process.getuid?.() !== 0)(
    "leads the real loader to a library that only it knows (root: chroot)",
    async () => {
      const bed = await openFinishBed(directory);
      const root = join(directory, "root");
      const needed = await hostFiles(join(built, "main"));
      for (const path of needed) await bed.add(path, await readFile(path), { mode: 0o755 });
      await bed.add("/etc/ld.so.conf", "/only/here\n");
      await bed.add("/only/here/libanswer.so.2.5", await readFile(join(built, "libanswer.so.2.5")));
      await bed.add("/main", await readFile(join(built, "main")), { mode: 0o755 });
      await writeRoot(bed, root);
      await expect(run("chroot", [root, "/main"], { env: { PATH } })).rejects.toThrow(/libanswer\.so\.2/);
      await finishLdSoCache(bed);
      await rm(root, { recursive: true });
      await writeRoot(bed, root);
      expect((await run("chroot", [root, "/main"], { env: { PATH } })).stdout).toBe("42\n");
    },
  );
});

/** The loader and the C library that the program uses on this machine. */
async function hostFiles(program: string): Promise<string[]> {
  const { stdout } = await run("ldd", [program], { env: { PATH, LC_ALL: "C" } });
  return [...stdout.matchAll(/(\/\S+) \(0x/g)].map(([, path]) => path ?? "");
}

async function writeRoot(bed: Awaited<ReturnType<typeof openFinishBed>>, root: string): Promise<void> {
  await writeTree(bed.tree, bed.blobs, root);
}
