/**
 * Assembly with names in place of distances. All jumps of classic BPF go forward, so a program is assembled from its
 * end: when a jump is placed, everything it can reach has a place already. A target farther than a conditional jump
 * reaches is reached through a JA next to it.
 */
import { type Instruction, MAX_BRANCH, MAX_INSTRUCTIONS, OPERATION } from "./instruction.ts";

/** Where a branch goes: to a label further down, or, absent, to the next step. */
export type Target = string | undefined;

export type Step =
  | { readonly kind: "load"; readonly offset: number }
  | { readonly kind: "and"; readonly mask: number }
  | { readonly kind: "return"; readonly verdict: number }
  | { readonly kind: "jump"; readonly to: string }
  | { readonly kind: "label"; readonly name: string }
  | {
      readonly kind: "branch";
      readonly test: "ifEqual" | "ifAtLeast";
      readonly value: number;
      readonly yes: Target;
      readonly no: Target;
    };

/**
 * Turns steps into instructions, at most MAX_INSTRUCTIONS.
 * @throws RangeError a label that is missing, given twice or not further down; a program that is too long
 */
export function assemble(steps: readonly Step[]): Instruction[] {
  const backwards: Instruction[] = [];
  const places = new Map<string, number>();
  for (const step of steps.toReversed()) {
    if (step.kind === "label") markPlace(places, step.name, backwards.length);
    else backwards.push(...encodeStep(step, backwards.length, places));
  }
  if (backwards.length > MAX_INSTRUCTIONS) {
    throw new RangeError(`the filter has ${backwards.length} instructions of ${MAX_INSTRUCTIONS}`);
  }
  return backwards.reverse();
}

/** A place is the number of instructions from it to the end. */
function markPlace(places: Map<string, number>, name: string, place: number): void {
  if (places.has(name)) throw new RangeError(`the label ${name} is given twice`);
  places.set(name, place);
}

type Branch = Extract<Step, { readonly kind: "branch" }>;
type Operation = Exclude<Step, { readonly kind: "label" }>;

/** @returns the instructions of one step, the last one first. */
function encodeStep(step: Operation, place: number, places: ReadonlyMap<string, number>): Instruction[] {
  switch (step.kind) {
    case "load":
      return [{ code: OPERATION.load, jt: 0, jf: 0, k: step.offset }];
    case "and":
      return [{ code: OPERATION.and, jt: 0, jf: 0, k: step.mask }];
    case "return":
      return [{ code: OPERATION.return, jt: 0, jf: 0, k: step.verdict }];
    case "jump":
      return [{ code: OPERATION.jump, jt: 0, jf: 0, k: place - findPlace(places, step.to, place) }];
    case "branch":
      return encodeBranch(
        step,
        place - findPlace(places, step.yes, place),
        place - findPlace(places, step.no, place),
      );
  }
}

function findPlace(places: ReadonlyMap<string, number>, target: Target, next: number): number {
  const place = target === undefined ? next : places.get(target);
  if (place === undefined) throw new RangeError(`no label ${target} further down`);
  return place;
}

/** Leaves room for the two hops that can stand behind a branch. */
const NEAR = MAX_BRANCH - 2;

/** @param yesSkip and noSkip count from the instruction after the branch, without hops. */
function encodeBranch(step: Branch, yesSkip: number, noSkip: number): Instruction[] {
  const far = [...new Set([yesSkip, noSkip].filter((skip) => skip > NEAR))];
  const hops = far.map((skip, index) => {
    const hopsBehind = far.length - 1 - index;
    return { code: OPERATION.jump, jt: 0, jf: 0, k: skip + hopsBehind };
  });
  const reach = (skip: number): number => (skip > NEAR ? far.indexOf(skip) : skip + far.length);
  const branch = { code: OPERATION[step.test], jt: reach(yesSkip), jf: reach(noSkip), k: step.value };
  return [...hops.reverse(), branch];
}
