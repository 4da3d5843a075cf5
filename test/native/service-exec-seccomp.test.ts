import { endianness } from "node:os";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { execute, openEquippedSandbox, runInside, SELF, userOf } from "./execution.ts";
import { isRoot, NOBODY, openWorkshop, type Workshop } from "./sandbox.ts";

let workshop: Workshop;
beforeAll(async () => {
  workshop = await openWorkshop();
});
afterAll(() => workshop[Symbol.asyncDispose]());

/** One instruction: code, jump if true, jump if false, operand. */
type Instruction = readonly [number, number, number, number];

const LOAD_WORD = 0x20;
const JUMP_IF_EQUAL = 0x15;
const RETURN = 0x06;
const ALLOW = 0x7fff_0000;
const ERRNO_EPERM = 0x0005_0001;
const KILL_PROCESS = 0x8000_0000;

/** Numbers of chdir(2). */
const CHDIR = process.arch === "arm64" ? 49 : 80;

/** Bytes as the kernel reads them: struct sock_filter in the machine's own order. */
function assemble(program: readonly Instruction[]): Buffer {
  return Buffer.concat(
    program.map(([code, jt, jf, k]) => {
      const bytes = Buffer.from([0, 0, jt, jf, 0, 0, 0, 0]);
      if (endianness() === "LE") {
        bytes.writeUInt16LE(code, 0);
        bytes.writeUInt32LE(k, 4);
      } else {
        bytes.writeUInt16BE(code, 0);
        bytes.writeUInt32BE(k, 4);
      }
      return bytes;
    }),
  );
}

/** A filter that answers one system call with `action` and allows all others. */
const against = (number: number, action: number): Buffer =>
  assemble([
    [LOAD_WORD, 0, 0, 0],
    [JUMP_IF_EQUAL, 0, 1, number],
    [RETURN, 0, 0, action],
    [RETURN, 0, 0, ALLOW],
  ]);

/** As many instructions as asked for, and valid. */
const long = (count: number): Buffer =>
  assemble(
    Array.from({ length: count }, (_, at) =>
      at === count - 1 ? [RETURN, 0, 0, ALLOW] : [LOAD_WORD, 0, 0, 0],
    ),
  );

async function filtered(filter: Uint8Array, identity: readonly string[], ...command: string[]) {
  const path = join(workshop.directory, "filter.bpf");
  await writeFile(path, filter);
  return execute(workshop.serviceExec, [...identity, "--seccomp", path, "--", ...command]);
}

describe("--seccomp", () => {
  test("makes the program obey the filter, and nothing before it", async () => {
    // service-exec itself changes the directory before.
    const result = await filtered(against(CHDIR, ERRNO_EPERM), SELF, "sh", "-c", "cd /tmp || pwd");
    expect(result).toMatchObject({ error: "", stdout: "/\n" });
    expect(result.stderr).toMatch(/can't cd to \/tmp/);
    const status = await filtered(
      against(CHDIR, ERRNO_EPERM),
      SELF,
      "grep",
      "^Seccomp:",
      "/proc/self/status",
    );
    expect(status.stdout).toBe("Seccomp:\t2\n");
  });

  test("ends a program by SIGSYS where the filter says so", async () => {
    const result = await filtered(against(CHDIR, KILL_PROCESS), SELF, "env", "-C", "/tmp", "true");
    expect(result).toMatchObject({ error: "", signal: "SIGSYS" });
  });

  test.skipIf(!isRoot)("reads a file that the service's own user may not read", async () => {
    const result = await filtered(against(CHDIR, ERRNO_EPERM), userOf(NOBODY), "env", "-C", "/tmp", "true");
    expect(result.stderr).toMatch(/Operation not permitted/);
  });

  test("leaves a service without a filter unfiltered", async () => {
    const { stdout } = await execute(workshop.serviceExec, [
      ...SELF,
      "--",
      "grep",
      "^Seccomp:",
      "/proc/self/status",
    ]);
    expect(stdout).toBe("Seccomp:\t0\n");
  });

  test("takes a filter as long as the kernel does", async () => {
    expect(await filtered(long(4096), SELF, "echo", "runs")).toMatchObject({ error: "", stdout: "runs\n" });
  });

  test.each([
    ["an empty file", Buffer.alloc(0), /^seccomp_file EINVAL \S+filter\.bpf: /],
    ["half an instruction", against(CHDIR, ALLOW).subarray(0, 28), /^seccomp_file EINVAL /],
    ["an odd number of bytes", Buffer.alloc(9), /^seccomp_file EINVAL /],
    ["too many instructions", long(4097), /^seccomp_file EFBIG /],
    ["a byte too many", Buffer.concat([long(4096), Buffer.alloc(1)]), /^seccomp_file EFBIG /],
    ["a program that does not return", assemble([[LOAD_WORD, 0, 0, 0]]), /^seccomp EINVAL /],
    [
      "a program that jumps out",
      assemble([
        [JUMP_IF_EQUAL, 9, 9, 0],
        [RETURN, 0, 0, ALLOW],
      ]),
      /^seccomp EINVAL /,
    ],
    [
      "a program that reads beyond the call",
      assemble([
        [LOAD_WORD, 0, 0, 64],
        [RETURN, 0, 0, ALLOW],
      ]),
      /^seccomp EINVAL /,
    ],
  ])("refuses %s", async (_name, filter, error) => {
    const result = await filtered(filter, SELF, "echo", "runs");
    expect(result).toMatchObject({ code: 126, stdout: "", error: expect.stringMatching(error) });
  });

  test("refuses a file that is missing or a folder", async () => {
    const missing = join(workshop.directory, "none.bpf");
    const run = (path: string) => execute(workshop.serviceExec, [...SELF, "--seccomp", path, "--", "true"]);
    expect(await run(missing)).toMatchObject({
      code: 126,
      error: `seccomp_file ENOENT ${missing}: No such file or directory\n`,
    });
    expect((await run(workshop.directory)).error).toMatch(/^seccomp_file EISDIR /);
  });
});

describe.each(isRoot ? (["root", "ordinary"] as const) : (["ordinary"] as const))(
  "in a sandbox that %s makes, the filter",
  (as) => {
    test("is read before the supervisor's folder is hidden, and holds", async () => {
      const { sandbox, agent } = await openEquippedSandbox(workshop, as);
      await using _ = sandbox;
      // As escapes of printf: the agent takes commands of one line.
      const bytes = [...against(CHDIR, ERRNO_EPERM)]
        .map((byte) => `\\${byte.toString(8).padStart(3, "0")}`)
        .join("");
      const path = "/run/enclave/filter.bpf";
      await runInside(agent, ["/bin/sh", "-c", `mkdir -m 755 /run/enclave; printf '${bytes}' >${path}`]);
      const service = ["/service-exec", ...SELF, "--confine", "--seccomp", path, "--", "/bin/sh", "-c"];
      const result = await runInside(agent, [
        ...service,
        "cd /tmp 2>/dev/null || echo refused; ls -A /run/enclave",
      ]);
      expect(result).toMatchObject({ status: 0, error: "", output: "refused\n" });
    });
  },
);
