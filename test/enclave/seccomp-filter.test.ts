import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { buildServiceFilter } from "../../enclave/seccomp/filter.ts";
import { CAPABILITIES } from "../../wire/capabilities.ts";
import { ANSWER_ERRNO, type Case, caseNumber, listCases } from "./seccomp-cases.ts";
import { type Outcome, SeccompProgram, type SystemCall } from "./seccomp-interpreter.ts";

const KILL = 0x8000_0000;
const ALLOW = 0x7fff_0000;
const ERRNO = 0x0005_0000;
const NEWEST = 470;
const identity = { uid: 1000, gid: 1001 };

/** As the kernel's headers have them (linux/audit.h). */
const ARCHITECTURES = { x64: 0xc000_003e, arm64: 0xc000_00b7 } as const;
const FOREIGN = {
  i386: 0x4000_0003,
  arm: 0x4000_0028,
  "big-endian aarch64": 0x8000_00b7,
  riscv64: 0xc000_00f3,
  nothing: 0,
} as const;

const verdictOf = (answer: Case["answer"]): number =>
  answer === "allow" ? ALLOW : ERRNO + ANSWER_ERRNO[answer];

describe.each(["x64", "arm64"] as const)("the filter for %s", (architecture) => {
  const filter = buildServiceFilter({ architecture, identity });
  const program = new SeccompProgram(filter);
  const granting = new SeccompProgram(
    buildServiceFilter({ architecture, identity, capabilities: CAPABILITIES }),
  );
  const cases = listCases(architecture, identity);
  const named = new Set(cases.map(({ call }) => caseNumber(call, architecture)));

  const ask = (target: SeccompProgram, call: Partial<SystemCall> & { readonly number: number }): Outcome =>
    target.run({ architecture: ARCHITECTURES[architecture], ...call });
  const askCase = (target: SeccompProgram, { call, arguments: values }: Case): number => {
    const number = caseNumber(call, architecture);
    if (number === undefined) throw new Error(`no number for ${call}`);
    return ask(target, { number, arguments: values }).verdict;
  };

  test.each(cases)("answers $title with $answer", (each) => {
    expect(askCase(program, each)).toBe(verdictOf(each.answer));
  });

  test.each(cases.filter(({ unless }) => unless.length > 0))(
    "allows $title to a service with one of $unless, and to none with all the others",
    (each) => {
      for (const capability of each.unless) {
        const free = buildServiceFilter({ architecture, identity, capabilities: [capability] });
        expect(askCase(new SeccompProgram(free), each), capability).toBe(ALLOW);
      }
      const others = CAPABILITIES.filter((capability) => !each.unless.includes(capability));
      const bound = buildServiceFilter({ architecture, identity, capabilities: others });
      expect(askCase(new SeccompProgram(bound), each)).toBe(verdictOf(each.answer));
    },
  );

  test.each(cases.filter(({ answer, unless }) => answer !== "allow" && unless.length === 0))(
    "refuses $title whatever the capabilities",
    (each) => {
      expect(askCase(granting, each)).toBe(verdictOf(each.answer));
    },
  );

  test.each(Object.entries(FOREIGN))("kills calls of %s, whatever they are", (_, foreign) => {
    for (const target of [program, granting]) {
      for (let number = 0; number <= NEWEST; number++) {
        expect(target.run({ number, architecture: foreign }).verdict).toBe(KILL);
      }
    }
  });

  test("kills calls of the other of our two architectures", () => {
    const other = ARCHITECTURES[architecture === "x64" ? "arm64" : "x64"];
    expect(program.run({ number: 0, architecture: other }).verdict).toBe(KILL);
  });

  test("answers numbers from the newest known one on as unknown, and kills those of x32", () => {
    fc.assert(
      fc.property(fc.integer({ min: NEWEST + 1, max: 0xffff_ffff }), (number) => {
        const isX32 = architecture === "x64" && number >= 0x4000_0000;
        expect(ask(program, { number }).verdict).toBe(isX32 ? KILL : ERRNO + ANSWER_ERRNO.ENOSYS);
      }),
      { numRuns: 2000 },
    );
    for (const number of [0x3fff_ffff, 0x4000_0000, 0xffff_ffff]) {
      const isX32 = architecture === "x64" && number >= 0x4000_0000;
      expect(ask(program, { number }).verdict).toBe(isX32 ? KILL : ERRNO + ANSWER_ERRNO.ENOSYS);
    }
  });

  test("allows every call that is not about one of the cases, without a look at its arguments", () => {
    let count = 0;
    for (let number = 0; number <= NEWEST; number++) {
      if (named.has(number)) continue;
      expect(ask(program, { number }), String(number)).toMatchObject({ verdict: ALLOW, constant: true });
      count++;
    }
    expect(count).toBeGreaterThan(350);
  });

  test("allows read and its like in at most a dozen instructions", () => {
    const read = architecture === "x64" ? 0 : 63;
    for (const number of [read, read + 1]) {
      expect(ask(program, { number })).toMatchObject({ verdict: ALLOW, constant: true });
      expect(ask(program, { number }).steps).toBeLessThanOrEqual(12);
    }
  });

  const word = fc.oneof(
    fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn }),
    fc.bigInt({ min: 0n, max: 64n }),
    fc.constantFrom(...cases.flatMap(({ arguments: values }) => values)),
  );
  const parameters = fc.array(word, { minLength: 6, maxLength: 6 });
  const anyNumber = fc.oneof(
    fc.integer({ min: 0, max: 0xffff_ffff }),
    fc.integer({ min: 0, max: NEWEST + 60 }),
    fc.constantFrom(...[...named].filter((number) => number !== undefined)),
  );
  const anyArchitecture = fc.oneof(
    fc.constantFrom(...Object.values(ARCHITECTURES), ...Object.values(FOREIGN)),
    fc.integer({ min: 0, max: 0xffff_ffff }),
  );

  test("answers any call whatever, in a few steps", () => {
    const known = [KILL, ALLOW, ...Object.values(ANSWER_ERRNO).map((errno) => ERRNO + errno)];
    fc.assert(
      fc.property(anyNumber, anyArchitecture, parameters, word, (number, foreign, values, pointer) => {
        for (const target of [program, granting]) {
          const call = { number, architecture: foreign, arguments: values, instructionPointer: pointer };
          const { verdict, steps } = target.run(call);
          expect(known).toContain(verdict);
          expect(steps).toBeLessThanOrEqual(32);
          if (foreign !== ARCHITECTURES[architecture]) expect(verdict).toBe(KILL);
        }
      }),
      { numRuns: 3000 },
    );
  });

  test("does not care about high halves of arguments nor about where the call is made", () => {
    fc.assert(
      fc.property(anyNumber, parameters, parameters, word, (number, values, others, pointer) => {
        const mixed = values.map(
          (value, index) => BigInt.asUintN(32, value) | (((others[index] ?? 0n) >> 32n) << 32n),
        );
        const one = ask(program, { number, arguments: values });
        const two = ask(program, { number, arguments: mixed, instructionPointer: pointer });
        expect(two).toEqual(one);
      }),
      { numRuns: 3000 },
    );
  });

  test("allows only Unix and internet sockets, of any domain that an int can name", () => {
    const socket = architecture === "x64" ? 41 : 198;
    fc.assert(
      fc.property(word, fc.constantFrom(1n, 2n, 0x80801n), (domain, type) => {
        const { verdict } = ask(program, { number: socket, arguments: [domain, type, 0n] });
        const isOurs = [1n, 2n, 10n].includes(BigInt.asUintN(32, domain));
        expect(verdict).toBe(isOurs ? ALLOW : ERRNO + ANSWER_ERRNO.EAFNOSUPPORT);
      }),
      { numRuns: 2000 },
    );
  });

  test("a service with all capabilities is refused nothing that one without is allowed", () => {
    fc.assert(
      fc.property(anyNumber, parameters, (number, values) => {
        const bound = ask(program, { number, arguments: values }).verdict;
        const free = ask(granting, { number, arguments: values }).verdict;
        expect([bound, ALLOW]).toContain(free);
      }),
      { numRuns: 2000 },
    );
  });

  test("without an identity, no id may be set, not even one's own", () => {
    const strict = new SeccompProgram(buildServiceFilter({ architecture }));
    for (const call of ["setuid", "setgid", "setreuid", "setresgid"]) {
      const number = caseNumber(call, architecture) ?? 0;
      for (const id of [0n, 1000n]) {
        expect(ask(strict, { number, arguments: [id, id, id] }).verdict).toBe(ERRNO + ANSWER_ERRNO.EPERM);
      }
    }
  });

  test("the same service gets the same bytes, of a few kilobytes", () => {
    expect(buildServiceFilter({ architecture, identity })).toEqual(filter);
    expect(buildServiceFilter({ architecture, identity, capabilities: [] })).toEqual(filter);
    expect(buildServiceFilter({ architecture, identity, capabilities: ["CAP_CHOWN", "nonsense"] })).toEqual(
      filter,
    );
    expect(filter.length).toBeLessThan(4096);
  });
});

test.each(["x64", "arm64"] as const)(
  "on %s, netlink means NETLINK_ROUTE and nothing else",
  (architecture) => {
    const filter = buildServiceFilter({ architecture, identity, netlink: true });
    const ask = (...values: number[]): number =>
      new SeccompProgram(filter).run({
        architecture: ARCHITECTURES[architecture],
        number: caseNumber("socket", architecture) ?? -1,
        arguments: values.map(BigInt),
      }).verdict;
    expect(ask(16, 3, 0)).toBe(ALLOW);
    expect(ask(16, 3, 9)).toBe(ERRNO + 1);
    expect(ask(17, 3, 0)).toBe(ERRNO + 97);
    expect(ask(40, 1, 0)).toBe(ERRNO + 97);
  },
);
