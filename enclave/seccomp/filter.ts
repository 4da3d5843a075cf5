/**
 * The system call filter of a service as a seccomp program (instruction.ts), ready for the kernel. Shape:
 *
 *   architecture is not ours     -> kill      covers int 0x80 and 32-bit programs
 *   number, by binary search over runs of numbers with the same answer:
 *     from 0 to NEWEST_SYSCALL   -> allow, an errno, or tests of arguments (rules.ts)
 *     above                      -> ENOSYS    libraries fall back; also hides the x32-only numbers from 512 on
 *     x64, from X32_BIT          -> kill      the same calls by other numbers
 *
 * Before arguments are looked at, only number and architecture are: since Linux 5.11 the kernel tries that out once
 * for each number and never runs the program for calls that it allows.
 */
import { assemble, type Step } from "./assembly.ts";
import { encodeInstructions, SECCOMP_DATA, VERDICT } from "./instruction.ts";
import { type Condition, ERRNO, type Rule } from "./rule.ts";
import { listRules } from "./rules.ts";
import {
  type Architecture,
  AUDIT_ARCHITECTURE,
  NEWEST_SYSCALL,
  syscallNumber,
  X32_BIT,
} from "./syscall-numbers.ts";

export interface FilterOptions {
  readonly architecture: Architecture;
  /** Names such as CAP_NET_ADMIN: calls that make sense only with one of them are allowed to its holder. */
  readonly capabilities?: readonly string[];
  /** The ids that the service runs with, as it sees them; it may set them again. Absent: no id may be set. */
  readonly identity?: { readonly uid: number; readonly gid: number };
  /** Sockets of NETLINK_ROUTE are allowed, with which programs list network interfaces. */
  readonly netlink?: boolean;
}

/** The program as `struct sock_filter[]`, 8 bytes each, a few kilobytes. The same options give the same bytes. */
export function buildServiceFilter(options: FilterOptions): Uint8Array {
  const { architecture, capabilities = [], identity, netlink = false } = options;
  const rules = listRules({ capabilities: new Set(capabilities), identity, netlink });
  const steps: Step[] = [
    { kind: "load", offset: SECCOMP_DATA.architecture },
    branch("ifEqual", AUDIT_ARCHITECTURE[architecture], { no: "foreign" }),
    { kind: "load", offset: SECCOMP_DATA.number },
    ...search(listRuns(architecture, groupByNumber(rules, architecture))),
    { kind: "label", name: "foreign" },
    { kind: "return", verdict: VERDICT.killProcess },
  ];
  return encodeInstructions(assemble(steps));
}

/** Numbers from `first` up to the next run, which all get the same answer. */
interface Run {
  readonly first: number;
  readonly answer: readonly Step[];
}

function groupByNumber(rules: readonly Rule[], architecture: Architecture): ReadonlyMap<number, Rule[]> {
  const groups = new Map<number, Rule[]>();
  for (const rule of rules) {
    for (const call of rule.calls) {
      const number = syscallNumber(call, architecture);
      if (number !== undefined) groups.set(number, [...(groups.get(number) ?? []), rule]);
    }
  }
  return groups;
}

const ALLOW: readonly Step[] = [{ kind: "return", verdict: VERDICT.allow }];

/** Covers every 32-bit number, ascending. */
function listRuns(architecture: Architecture, groups: ReadonlyMap<number, readonly Rule[]>): readonly Run[] {
  const runs: Run[] = [];
  for (let number = 0; number <= NEWEST_SYSCALL; number++) {
    const rules = groups.get(number);
    const answer = rules === undefined ? ALLOW : answerCall(number, rules);
    if (!isSameAnswer(runs.at(-1)?.answer, answer)) runs.push({ first: number, answer });
  }
  runs.push({ first: NEWEST_SYSCALL + 1, answer: refuse("ENOSYS") });
  if (architecture === "x64") {
    runs.push({ first: X32_BIT, answer: [{ kind: "return", verdict: VERDICT.killProcess }] });
  }
  return runs;
}

/** Tests of arguments are never shared: their labels hold the number. */
function isSameAnswer(left: readonly Step[] | undefined, right: readonly Step[]): boolean {
  const [before, after] = [left?.[0], right[0]];
  return before?.kind === "return" && after?.kind === "return" && before.verdict === after.verdict;
}

function search(runs: readonly Run[]): Step[] {
  const middle = runs.length >> 1;
  const [only, upper] = [runs[0], runs[middle]];
  if (only === undefined || upper === undefined) return [];
  if (runs.length === 1) return [...only.answer];
  const name = `from ${upper.first}`;
  return [
    branch("ifAtLeast", upper.first, { yes: name }),
    ...search(runs.slice(0, middle)),
    { kind: "label", name },
    ...search(runs.slice(middle)),
  ];
}

function answerCall(number: number, rules: readonly Rule[]): readonly Step[] {
  const steps: Step[] = [];
  for (const [index, { conditions = [], answer }] of rules.entries()) {
    if (conditions.length === 0) return [...steps, ...refuse(answer)];
    const name = `call ${number} rule ${index}`;
    for (const [part, condition] of conditions.entries()) {
      steps.push(...testArgument(condition, `${name} condition ${part} holds`, `${name} does not apply`));
    }
    steps.push(...refuse(answer), { kind: "label", name: `${name} does not apply` });
  }
  return [...steps, ...ALLOW];
}

/** Goes on behind if the condition holds, else to `fails`. Needs a label of its own, `holds`. */
function testArgument(condition: Condition, holds: string, fails: string): Step[] {
  const { argument, mask, is, values } = condition;
  const found = is === "oneOf" ? holds : fails;
  const steps: Step[] = [{ kind: "load", offset: SECCOMP_DATA.argumentLow(argument) }];
  if (mask !== undefined) steps.push({ kind: "and", mask });
  steps.push(...values.map((value) => branch("ifEqual", value, { yes: found })));
  if (is === "oneOf") steps.push({ kind: "jump", to: fails });
  return [...steps, { kind: "label", name: holds }];
}

function refuse(answer: keyof typeof ERRNO): readonly Step[] {
  return [{ kind: "return", verdict: VERDICT.errno(ERRNO[answer]) }];
}

function branch(
  test: "ifEqual" | "ifAtLeast",
  value: number,
  targets: { readonly yes?: string; readonly no?: string },
): Step {
  return { kind: "branch", test, value, yes: targets.yes, no: targets.no };
}
