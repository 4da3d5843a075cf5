/** Everything that is checked without running the product; `npm test` begins with it. All checks run, then it fails. */
import { spawnSync } from "node:child_process";

const CHECKS: readonly (readonly [string, readonly string[]])[] = [
  ["tsc", ["-p", "."]],
  ["oxlint", ["--type-aware", "--deny-warnings", "."]],
  ["prettier", ["--check", "--log-level", "warn", "."]],
  ["knip", ["--no-progress"]],
];

let failed = 0;
for (const [program, commandArguments] of CHECKS) {
  process.stdout.write(`check: ${program}\n`);
  const { status } = spawnSync(program, commandArguments, { stdio: "inherit" });
  if (status !== 0) failed += 1;
}
process.exitCode = failed === 0 ? 0 : 1;
