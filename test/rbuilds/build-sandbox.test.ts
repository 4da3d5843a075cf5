import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { openBlobStore } from "../../rbuilds/blob-store.ts";
import { runInBuildSandbox, type SandboxRun } from "../../rbuilds/toolchain/build-sandbox.ts";
import { compile, type CompileRequest, resultScript } from "../../rbuilds/toolchain/compile.ts";
import { openTestToolchain, type TestToolchain } from "../fixtures/rbuilds/toolchain-testbed.ts";

const MIB = 1024 ** 2;
let bed: TestToolchain;
let directory = "";
beforeAll(async () => {
  bed = await openTestToolchain();
  directory = await mkdtemp(join(tmpdir(), "sandbox-test-"));
}, 600_000);
afterAll(async () => await rm(directory, { recursive: true }));

describe("the sandbox of compilers", () => {
  test("has the toolchain, the inputs, and nothing of this machine's environment or network", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    const address = server.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    const input = join(directory, "input");
    await writeFile(input, "given\n");
    const script = [
      "cat /inputs/one",
      "env | sort",
      "id -u",
      "pwd",
      "hostname 2>/dev/null || cat /proc/sys/kernel/hostname",
      "ls /sys/class/net",
      `(exec 3<>/dev/tcp/127.0.0.1/${port}) 2>/dev/null && echo connected || echo alone`,
      "touch /inputs/one 2>/dev/null && echo written || echo read-only",
    ].join("\n");
    try {
      const { text, status } = await run({ script, inputs: [{ source: input, target: "/inputs/one" }] });
      expect(status).toBe(0);
      const lines = text.split("\n");
      expect(lines).toEqual(
        expect.arrayContaining([
          "given",
          "HOME=/build",
          "TZ=UTC",
          "LC_ALL=C",
          "SOURCE_DATE_EPOCH=0",
          "/build",
          "lo",
        ]),
      );
      expect(lines.filter((line) => /^[A-Za-z_]+=/.test(line)).map((line) => line.split("=")[0])).toEqual(
        expect.not.arrayContaining(["USER", "LANG", "npm_config_cache"]),
      );
      expect(text).toContain("alone");
      expect(text).toContain("read-only");
      expect(lines).not.toContain("eth0");
    } finally {
      server.close();
    }
  });

  test("tells status and the end of what the tools said", async () => {
    const { status, log } = await run({ script: "echo before; echo 'the fault' >&2; exit 7" });
    expect({ status, log }).toEqual({ status: 7, log: "the fault" });
  });

  test("ends a script that prints without end", async () => {
    await expect(run({ script: "yes" }, { maxOutputBytes: MIB })).rejects.toMatchObject({
      code: "E_TOOLCHAIN_OUTPUT",
    });
  });

  test("ends a script that takes too long, and one that nobody wants any more", async () => {
    await expect(run({ script: "sleep 600" }, { timeoutMs: 300 })).rejects.toMatchObject({
      code: "E_DEADLINE",
    });
    const controller = new AbortController();
    const onLine = (): void => controller.abort();
    await expect(
      run({ script: "echo started >&2; sleep 600" }, { signal: controller.signal, onLine }),
    ).rejects.toMatchObject({ code: "E_CANCELLED" });
  });

  test("leaves nothing of its own behind", async () => {
    await run({ script: "true" });
    expect((await readdir(directory)).filter((name) => name.startsWith("sandbox-"))).toEqual([]);
  });

  test("bounds what a script writes", async () => {
    const { status, log } = await run({ script: "head -c 64M /dev/zero > big" }, { tmpfsBytes: 16 * MIB });
    expect(status).not.toBe(0);
    expect(log).toMatch(/No space left/);
  });
});

describe("compiling", () => {
  test("gives the same bytes as before from the cache, and without it", async () => {
    const source = join(directory, "one.c");
    await writeFile(source, "int main(void) { return 42; }\n");
    const request = requestOf("gcc -O2 -static -s -o result/one /inputs/one.c", source);
    const first = await compileIn("first", request);
    expect(await compileIn("first", request)).toEqual(first);
    expect(await compileIn("second", request)).toEqual(first);
  });

  test("refuses a source with a fault, in the compiler's words", async () => {
    const source = join(directory, "bad.c");
    await writeFile(source, "int main(void) { return x; }\n");
    await expect(
      compileIn("bad", requestOf("gcc -o result/one /inputs/one.c", source)),
    ).rejects.toMatchObject({
      code: "E_TOOLCHAIN_COMPILE",
      message: expect.stringContaining("undeclared"),
    });
    expect(await readdir(join(directory, "bad", "compiled"))).toEqual([]);
  });

  test("refuses a build that leaves less or more than was asked for", async () => {
    const source = join(directory, "one.c");
    await writeFile(source, "");
    await expect(compileIn("none", requestOf("touch result/other", source))).rejects.toMatchObject({
      code: "E_TOOLCHAIN_COMPILE",
    });
    await expect(compileIn("many", requestOf("touch result/one result/two", source))).rejects.toMatchObject({
      code: "E_IMAGE_TAR_TOO_LARGE",
    });
  });
});

async function compileIn(cache: string, request: CompileRequest): Promise<ReadonlyMap<string, unknown>> {
  const cacheDir = join(directory, cache);
  await mkdir(cacheDir, { recursive: true });
  const blobs = await openBlobStore(join(cacheDir, "blobs"));
  return await compile(request, { ...bed, cacheDir, blobs });
}

function requestOf(script: string, source: string): CompileRequest {
  return {
    title: "a program",
    key: {},
    script: resultScript(script),
    inputs: [{ source, target: "/inputs/one.c" }],
    results: ["one"],
    tmpfsBytes: 64 * MIB,
    timeoutMs: 60_000,
    maxResultBytes: 16 * MIB,
  };
}

async function run(
  what: Pick<SandboxRun, "script"> & Partial<SandboxRun>,
  limits: Partial<SandboxRun> = {},
): Promise<{ readonly status: number | null; readonly log: string; readonly text: string }> {
  const output = join(directory, "output");
  const result = await runInBuildSandbox({
    launcher: bed.launcher,
    ids: bed.ids,
    root: bed.toolchain.root,
    scratchDir: directory,
    inputs: [],
    tmpfsBytes: 64 * MIB,
    timeoutMs: 60_000,
    output,
    maxOutputBytes: MIB,
    ...what,
    ...limits,
  });
  return { ...result, text: await readFile(output, "utf8") };
}
