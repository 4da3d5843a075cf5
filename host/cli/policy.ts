import { Command } from "commander";

import { KitError } from "../../core/errors.ts";
import { tlsModeOf } from "../../wire/egress-policy.ts";
import {
  EgressPolicy,
  type EgressTarget,
  formatTarget,
  suggestRule,
  toTarget,
} from "../../pf-proxy/policy/egress-policy.ts";
import { ForbiddenAddresses } from "../../pf-proxy/policy/forbidden-addresses.ts";
import { formatRule } from "../../pf-proxy/policy/rule-text.ts";
import { loadEnclaveSpec } from "../config/load-spec.ts";
import type { CommandContext, GetContext } from "./command-context.ts";

interface CheckFlags {
  readonly file: string;
  readonly json?: boolean;
}

/** The exit status says it too, for scripts. */
const DENIED_STATUS = 4;

interface Verdict {
  readonly target: string;
  readonly verdict: "allow" | "deny";
  readonly reason: string | null;
  /** In the words of the YAML. */
  readonly rule: string | null;
  readonly tls: string | null;
  readonly allow: string | null;
}

export function createPolicyCommand(getContext: GetContext): Command {
  const check = new Command("check")
    .description("say whether the egress rules of an enclave.yaml allow a connection, and which rule decides")
    .argument("<target>", "HOST:PORT or [ADDRESS]:PORT")
    .option("-f, --file <file>", "the enclave.yaml", "enclave.yaml")
    .option("--json", "print JSON")
    .addHelpText(
      "after",
      "\nExit status: 0 allowed, 4 denied.\n\nExamples:\n  pipeline policy check api.example.com:443\n  pipeline policy check 10.0.0.5:5432 -f examples/hello/enclave.yaml --json",
    )
    .action(async (text: string, flags: CheckFlags) => await runCheck(getContext(), text, flags));
  return new Command("policy")
    .description("ask the egress rules")
    .addCommand(check)
    .addHelpText("after", "\nExamples:\n  pipeline policy check api.example.com:443");
}

async function runCheck({ terminal }: CommandContext, text: string, flags: CheckFlags): Promise<void> {
  const target = parseTarget(text);
  const { egress } = await loadEnclaveSpec(flags.file);
  const verdict = decide(new EgressPolicy(egress.rules), target);
  if (flags.json === true) terminal.printJson(verdict);
  else terminal.print(describe(verdict, (style, words) => terminal.colour(style, words)));
  if (verdict.verdict === "deny") process.exitCode = DENIED_STATUS;
}

/** @throws E_EGRESS_NAME, E_USAGE */
function parseTarget(text: string): EgressTarget {
  const [, ipv6, host, port = ""] = /^(?:\[([^\]]*)\]|([^:]*)):([0-9]{1,5})$/.exec(text) ?? [];
  const number = Number(port);
  if (number >= 1 && number <= 65_535) return toTarget(ipv6 ?? host ?? "", number);
  throw new KitError("E_USAGE", `${JSON.stringify(text)} is no HOST:PORT`, {
    hint: "Write api.example.com:443, 10.0.0.5:5432 or [2001:db8::1]:443.",
  });
}

function decide(policy: EgressPolicy, target: EgressTarget): Verdict {
  const decision = policy.decide(target);
  const rule = decision.index === null ? undefined : policy.rules[decision.index];
  const words = { target: formatTarget(target), rule: rule === undefined ? null : formatRule(rule) };
  if (decision.verdict === "deny") {
    const allow = decision.reason === "no_rule" ? suggestRule(target) : null;
    return { ...words, verdict: "deny", reason: decision.reason, tls: null, allow };
  }
  const forbidden = target.kind === "address" ? new ForbiddenAddresses([]).reasonFor(target.host) : null;
  if (forbidden !== null && decision.rule.connectTo === undefined)
    return { ...words, verdict: "deny", reason: `forbidden_address: ${forbidden}`, tls: null, allow: null };
  return {
    ...words,
    verdict: "allow",
    reason: null,
    tls: tlsModeOf(decision.rule, target.port),
    allow: null,
  };
}

function describe(verdict: Verdict, colour: (style: "green" | "red", words: string) => string): string {
  const { target, rule, tls, reason, allow } = verdict;
  if (verdict.verdict === "allow")
    return `${colour("green", "allowed")}: ${target} by ${rule ?? ""} (tls: ${tls ?? ""})`;
  const lines = [
    `${colour("red", "denied")}: ${target}: ${reason ?? ""}${rule === null ? "" : ` of ${rule}`}`,
  ];
  return [...lines, ...(allow === null ? [] : [`this rule would allow it: - ${allow}`])].join("\n");
}
