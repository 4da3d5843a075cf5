import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { buildServiceFilter } from "../../enclave/seccomp/filter.ts";
import { encodeInstructions, OPERATION, VERDICT } from "../../enclave/seccomp/instruction.ts";
import { CAPABILITIES } from "../../wire/capabilities.ts";
import { ANSWER_ERRNO, type Case, caseNumber, listCases } from "./seccomp-cases.ts";
import { SeccompProgram } from "./seccomp-interpreter.ts";
import { Probe } from "./seccomp-probe.ts";

const architecture = process.arch === "arm64" ? "arm64" : "x64";
const identity = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
/** Nothing but our filter stands between the probe and the kernel. */
const isUnconfined = await lookUnconfined();
const isX64 = architecture === "x64";
const CASES = listCases(architecture, identity);
const FILTER = buildServiceFilter({ architecture, identity });
const GRANTING = buildServiceFilter({ architecture, identity, capabilities: CAPABILITIES });

async function lookUnconfined(): Promise<boolean> {
  const status = await readFile("/proc/self/status", "utf8");
  const last = Number(await readFile("/proc/sys/kernel/cap_last_cap", "utf8"));
  const effective = BigInt(`0x${/^CapEff:\s+([0-9a-f]+)$/m.exec(status)?.[1] ?? "0"}`);
  const isFiltered = !/^Seccomp:\s+0$/m.test(status);
  return effective === (1n << BigInt(last + 1)) - 1n && !isFiltered;
}

let probe: Probe;
/** By title: behind the filter, behind that of a service with all capabilities, and without one. */
const answers = new Map<string, Partial<Record<"filtered" | "granted" | "free", string | undefined>>>();

beforeAll(async () => {
  probe = await Probe.open();
  const lines = CASES.map(
    ({ call, arguments: values }) => `call ${caseNumber(call, architecture)} ${values.join(" ")}`,
  );
  const [filtered, granted, free] = await Promise.all([
    probe.attempt(FILTER, lines),
    probe.attempt(GRANTING, lines),
    probe.attempt(undefined, lines),
  ]);
  for (const [index, { title }] of CASES.entries()) {
    answers.set(title, { filtered: filtered[index], granted: granted[index], free: free[index] });
  }
});
afterAll(() => probe[Symbol.asyncDispose]());

const expected = (answer: Exclude<Case["answer"], "allow">): string => `errno ${ANSWER_ERRNO[answer]}`;

describe("the kernel, behind the filter", () => {
  test("each case has a title of its own", () => {
    expect(new Set(CASES.map(({ title }) => title)).size).toBe(CASES.length);
  });

  test.each(CASES.filter(({ answer }) => answer === "allow"))("lets $title through", ({ title }) => {
    const { filtered, free } = answers.get(title) ?? {};
    expect(filtered).toMatch(/^(ok|errno \d+)$/);
    // no_new_privs, which a filter needs, is what an ordinary user needs to restrict himself: there is no other answer to compare.
    if (isUnconfined || title !== "landlock_restrict_self") expect(filtered).toBe(free);
  });

  test.each(CASES.filter(({ answer }) => answer !== "allow"))("answers $title with $answer", (each) => {
    if (each.answer === "allow") return;
    const { filtered, free } = answers.get(each.title) ?? {};
    expect(filtered).toBe(expected(each.answer));
    // Otherwise it may be something else that refuses, with and without the filter.
    if (isUnconfined && !each.optional) expect(free).not.toBe(filtered);
  });

  test.each(CASES.filter(({ unless }) => unless.length > 0))(
    "leaves $title to the kernel for a service with $unless",
    ({ title }) => {
      const { granted, free } = answers.get(title) ?? {};
      expect(granted).toBe(free);
    },
  );

  test.each(CASES.filter(({ answer, unless }) => answer !== "allow" && unless.length === 0))(
    "refuses $title whatever capabilities a service has",
    ({ title }) => {
      const { filtered, granted } = answers.get(title) ?? {};
      expect(granted).toBe(filtered);
    },
  );
});

describe("ways around the filter", () => {
  const KILLED = "signal 31";

  test.runIf(isX64)("a call of i386 by int 0x80 ends the process", async () => {
    const [killed] = await probe.attempt(FILTER, ["int80 20"]);
    expect(killed).toBe(KILLED);
  });

  test.runIf(isX64)("so does a 32-bit program at its first call", async () => {
    const program = await probe.compile("seccomp-32bit", ["-m32", "-static", "-nostdlib", "-ffreestanding"]);
    expect(await probe.execute(FILTER, [program])).toMatchObject({ code: null, signal: "SIGSYS" });
  });

  test.runIf(isX64)("so do the numbers of x32, of any capability", async () => {
    const numbers = [0x4000_0000, 0x4000_0000 + 39, 0x4000_0000 + 520, 0x7fff_ffff, 0xffff_ffff];
    for (const filter of [FILTER, GRANTING]) {
      const killed = await probe.attempt(
        filter,
        numbers.map((number) => `call ${number}`),
      );
      expect(killed).toEqual(numbers.map(() => KILLED));
    }
  });

  test.runIf(isX64)("what one thread does ends all of them", async () => {
    expect(await probe.attempt(FILTER, [`thread ${0x4000_0000 + 39}`, "thread 39"])).toEqual([KILLED, "ok"]);
  });

  test("io_uring makes no socket", async () => {
    const lines = ["uring 40", "uring 1"];
    expect(await probe.attempt(FILTER, lines)).toEqual(["errno 1", "errno 1"]);
    expect(await probe.attempt(GRANTING, lines)).toEqual(["errno 1", "errno 1"]);
  });

  test("without the filter, io_uring would (or the kernel has none)", async () => {
    const [answer] = await probe.attempt(undefined, ["uring 1"]);
    expect(answer).toMatch(/^(ok|errno (1|22|38))$/);
  });
});

describe("the kernel's check of programs", () => {
  const [allow, load] = [{ code: OPERATION.return, jt: 0, jf: 0, k: VERDICT.allow }, OPERATION.load];
  const jump = (code: number, jt: number, jf: number, k: number) => ({ code, jt, jf, k });
  const many = (count: number) => encodeInstructions(Array.from({ length: count }, () => allow));

  test("takes the filters of both architectures", async () => {
    const other = buildServiceFilter({ architecture: isX64 ? "arm64" : "x64" });
    // It is installed, and then everything is of a foreign architecture.
    expect(await probe.execute(other, ["/bin/true"])).toMatchObject({ code: null, signal: "SIGSYS" });
    expect(await probe.execute(FILTER, ["/bin/true"])).toMatchObject({ code: 0 });
  });

  test.each([
    ["no instruction", many(0), false],
    ["4096 instructions", many(4096), true],
    ["4097 instructions", many(4097), false],
    ["no return at the end", encodeInstructions([allow, jump(load, 0, 0, 0)]), false],
    ["a load past the data", encodeInstructions([jump(load, 0, 0, 64), allow]), false],
    ["a load of the last word", encodeInstructions([jump(load, 0, 0, 60), allow]), true],
    ["a load that is not aligned", encodeInstructions([jump(load, 0, 0, 2), allow]), false],
    ["a jump to the last instruction", encodeInstructions([jump(OPERATION.jump, 0, 0, 0), allow]), true],
    ["a jump behind it", encodeInstructions([jump(OPERATION.jump, 0, 0, 1), allow]), false],
    ["a jump far away", encodeInstructions([jump(OPERATION.jump, 0, 0, 0xffff_ffff), allow]), false],
    ["a branch behind it", encodeInstructions([jump(OPERATION.ifEqual, 0, 1, 0), allow]), false],
    ["another branch behind it", encodeInstructions([jump(OPERATION.ifAtLeast, 1, 0, 0), allow]), false],
    ["an unknown operation", encodeInstructions([jump(0xffff, 0, 0, 0), allow]), false],
  ])("agrees with the interpreter on %s", async (_, program, valid) => {
    const { code, stderr } = await probe.execute(program, ["/bin/true"]);
    expect({ code, stderr }).toEqual(
      valid ? { code: 0, stderr: "" } : { code: 2, stderr: "seccomp: errno 22\n" },
    );
    const interpret = (): SeccompProgram => new SeccompProgram(program);
    if (valid) expect(interpret).not.toThrow();
    else expect(interpret).toThrow(/instruction|program/);
  });
});
