import { access, readFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";

import { listRules } from "../../enclave/seccomp/rules.ts";
import { NEWEST_SYSCALL, SYSCALL_NUMBERS, type SyscallName } from "../../enclave/seccomp/syscall-numbers.ts";
import { listCases } from "./seccomp-cases.ts";

const HEADERS = {
  x64: "/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
  arm64: "/usr/include/asm-generic/unistd.h",
} as const;

async function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
const readable = { x64: await isThere(HEADERS.x64), arm64: await isThere(HEADERS.arm64) };

async function readHeader(path: string): Promise<ReadonlyMap<string, number>> {
  const source = await readFile(path, "utf8");
  const rows = source.matchAll(/^#define __NR(?:3264)?_(\w+)\s+(\d+)$/gm);
  return new Map([...rows].map(([, name = "", number]) => [name, Number(number)]));
}

const NAMES = Object.keys(SYSCALL_NUMBERS).filter((name): name is SyscallName => name in SYSCALL_NUMBERS);
const rules = listRules({ capabilities: new Set(), identity: { uid: 1, gid: 1 }, netlink: false });

describe("numbers of system calls", () => {
  describe.each(["x64", "arm64"] as const)("of %s", (architecture) => {
    // A machine of one architecture need not have the header of the other.
    test.skipIf(!readable[architecture])("are those of the kernel's header", async () => {
      const header = await readHeader(HEADERS[architecture]);
      expect(header.size).toBeGreaterThan(250);
      const newest = Math.max(...header.values());
      for (const name of NAMES) {
        const numbers: { readonly x64: number; readonly arm64?: number } = SYSCALL_NUMBERS[name];
        const number = numbers[architecture];
        // The header may be older than the call.
        if (number === undefined || number <= newest) expect(number, name).toBe(header.get(name));
        else expect(number, name).toBe(numbers.x64);
      }
    });
  });

  test("none is beyond the newest one known, and the newest is one", () => {
    const all = NAMES.map((name) => SYSCALL_NUMBERS[name].x64);
    expect(Math.max(...all)).toBe(NEWEST_SYSCALL);
    expect(new Set(all).size).toBe(all.length);
  });
});

describe("rules", () => {
  test("each says why, in words of its own or of its kin", () => {
    for (const { calls, why } of rules) expect(why.length, calls.join()).toBeGreaterThan(10);
  });

  test("each call of the table is under a rule, and each has a case", () => {
    const ruled = new Set(rules.flatMap(({ calls }) => calls));
    expect([...ruled].toSorted()).toEqual(NAMES.toSorted());
    const tried = new Set(listCases("x64", { uid: 1, gid: 1 }).map(({ call }) => call));
    expect(NAMES.filter((name) => !tried.has(name))).toEqual([]);
  });
});
