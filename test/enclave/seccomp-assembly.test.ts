import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { assemble, type Step } from "../../enclave/seccomp/assembly.ts";
import { encodeInstructions, type Instruction } from "../../enclave/seccomp/instruction.ts";
import { SeccompProgram } from "./seccomp-interpreter.ts";

const ANSWER = { kind: "return", verdict: 7 } as const;
const NUMBER = { kind: "load", offset: 0 } as const;
const filler = (count: number): Step[] => Array.from({ length: count }, () => ({ kind: "and", mask: 0xff }));
const label = (name: string): Step => ({ kind: "label", name });
const branch = (value: number, yes?: string, no?: string): Step => ({
  kind: "branch",
  test: "ifEqual",
  value,
  yes,
  no,
});
const run = (steps: readonly Step[], number: number): number =>
  new SeccompProgram(encodeInstructions(assemble(steps))).run({ number, architecture: 0 }).verdict;

/** What steps mean, without distances. */
function follow(steps: readonly Step[], number: number): number {
  let accumulator = 0;
  for (let index = 0; ; index++) {
    const step = steps[index];
    switch (step?.kind) {
      case "return":
        return step.verdict;
      case "load":
        accumulator = number;
        break;
      case "and":
        accumulator = (accumulator & step.mask) >>> 0;
        break;
      case "jump":
      case "branch":
        index = findLabel(steps, chooseTarget(step, accumulator)) ?? index;
        break;
      case "label":
        break;
      case undefined:
        throw new Error("no verdict");
    }
  }
}

function chooseTarget(step: Extract<Step, { kind: "jump" | "branch" }>, accumulator: number) {
  if (step.kind === "jump") return step.to;
  const holds = step.test === "ifEqual" ? accumulator === step.value : accumulator >= step.value;
  return holds ? step.yes : step.no;
}

function findLabel(steps: readonly Step[], name: string | undefined): number | undefined {
  if (name === undefined) return undefined;
  return steps.findIndex((step) => step.kind === "label" && step.name === name);
}

describe("assembly", () => {
  test("encodes as struct sock_filter, little-endian", () => {
    const instruction: Instruction = { code: 0x0135, jt: 2, jf: 3, k: 0xc000_003e };
    expect(Buffer.from(encodeInstructions([instruction])).toString("hex")).toBe("350102033e0000c0");
  });

  test.each([0, 1, 252, 253, 254, 255, 256, 257, 600])(
    "reaches both targets of a branch over %d instructions",
    (count) => {
      const tail: Step[] = [
        label("a"),
        { kind: "return", verdict: 1 },
        label("b"),
        { kind: "return", verdict: 2 },
      ];
      const both = [NUMBER, branch(5, "a", "b"), ...filler(count), ANSWER, ...tail];
      expect([run(both, 5), run(both, 6)]).toEqual([1, 2]);
      const yes = [NUMBER, branch(5, "b"), ...filler(count), ANSWER, ...tail];
      expect([run(yes, 5), run(yes, 6)]).toEqual([2, 7]);
      const no = [NUMBER, branch(5, undefined, "b"), ...filler(count), ANSWER, ...tail];
      expect([run(no, 5), run(no, 6)]).toEqual([7, 2]);
      const same = [NUMBER, branch(5, "b", "b"), ...filler(count), ANSWER, ...tail];
      expect([run(same, 5), run(same, 6)]).toEqual([2, 2]);
    },
  );

  test("means what the steps say, for any program", () => {
    const name = (index: number): string => `label ${index}`;
    const step = (index: number, last: number) => {
      const target = fc.option(fc.integer({ min: index + 1, max: last }).map(name), { nil: undefined });
      const value = fc.integer({ min: 0, max: 9 });
      return fc.oneof(
        { weight: 1, arbitrary: fc.record({ kind: fc.constant("return" as const), verdict: value }) },
        { weight: 1, arbitrary: fc.constant<Step>({ kind: "and", mask: 0xffff_fffe }) },
        { weight: 2, arbitrary: fc.constant<Step>(NUMBER) },
        {
          weight: 8,
          arbitrary: fc.record({
            kind: fc.constant("branch" as const),
            test: fc.constantFrom("ifEqual" as const, "ifAtLeast" as const),
            value,
            yes: target,
            no: target,
          }),
        },
        {
          weight: 1,
          arbitrary: fc.record({
            kind: fc.constant("jump" as const),
            to: fc.integer({ min: index + 1, max: last }).map(name),
          }),
        },
      );
    };
    const programs = fc.integer({ min: 1, max: 700 }).chain((size) => {
      const steps = Array.from({ length: size }, (_, index) => step(index, size));
      return fc
        .tuple(...steps)
        .map((list): Step[] => [
          NUMBER,
          ...list.flatMap((each, index): Step[] => [label(name(index)), each]),
          label(name(size)),
          ANSWER,
        ]);
    });
    fc.assert(
      fc.property(programs, (steps) => {
        const program = new SeccompProgram(encodeInstructions(assemble(steps)));
        for (let number = 0; number < 10; number++) {
          expect(program.run({ number, architecture: 0 }).verdict).toBe(follow(steps, number));
        }
      }),
      { numRuns: 40 },
    );
  });

  test.each<[string, Step[]]>([
    ["no label nowhere further down", [branch(1, "nowhere"), ANSWER]],
    ["no label above further down", [label("above"), branch(1, "above"), ANSWER]],
    ["the label twice is given twice", [branch(1, "twice"), label("twice"), label("twice"), ANSWER]],
    ["the filter has 4097 instructions of 4096", [...filler(4096), ANSWER]],
  ])("refuses a program: %s", (message, steps) => {
    expect(() => assemble(steps)).toThrow(new RangeError(message));
  });
});
