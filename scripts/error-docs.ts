import { EXIT } from "../core/error-codes/error-entry.ts";
import { ERROR_TABLE } from "../core/error-table.ts";

const EXIT_MEANINGS: Readonly<Record<keyof typeof EXIT, string>> = {
  ok: "success",
  failure: "a fault of the toolkit, or one without a better status",
  usage: "command line or configuration refused",
  badEvidence: "attestation evidence is bad",
  unmetPolicy: "evidence is good but not what the policy asks for",
  notFound: "the named enclave, service or file does not exist",
  conflict: "something is in the way: a name, a port, a running enclave",
  environment: "this machine lacks something the command needs",
  resources: "out of memory or disk",
  enclaveFailed: "the enclave or one of its services failed",
  deadline: "a deadline passed",
  interrupted: "interrupted by the operator",
};

/** The text of docs/errors.md. */
export function renderErrorDocs(): string {
  const lines = [
    "# Errors",
    "",
    "Written from the error table by `npm run docs:errors`; a test compares the two. Every refusal has one code, a message",
    "that names the value, and a hint. With `--json` the error is an object `{code, message, hint, details}`.",
    "",
    "## Exit statuses",
    "",
    "| status | meaning |",
    "| --- | --- |",
    ...Object.entries(EXIT).map(([name, status]) => `| ${status} | ${meaningOf(name)} |`),
    "",
    "## Codes",
  ];
  for (const [code, entry] of Object.entries(ERROR_TABLE)) {
    lines.push(
      "",
      `### ${code}`,
      "",
      `Exit status ${entry.exit}. ${entry.meaning}`,
      "",
      `What to do: ${entry.hint}`,
    );
  }
  return `${lines.join("\n")}\n`;
}

function meaningOf(name: string): string {
  return Object.entries(EXIT_MEANINGS).find(([key]) => key === name)?.[1] ?? "";
}
