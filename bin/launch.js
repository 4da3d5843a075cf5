// Runs a program of dist/ under the Node that this package brings, whatever the machine has.
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { constants } from "node:os";
import { dirname, join } from "node:path";
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

const NEEDED_MAJOR = 26;

/** Becomes dist/<name>.js, as far as a program can. */
export async function launch(name) {
  const program = join(dirname(fileURLToPath(import.meta.url)), "..", "dist", `${name}.js`);
  const refuse = (message) => {
    process.stderr.write(`${name}: ${message}\n`);
    process.exit(7);
  };
  if (!existsSync(program))
    refuse("dist/ is missing; run `npm ci` (or `npm run build`) in the repository first");
  if (Number(process.versions.node.split(".")[0]) >= NEEDED_MAJOR) {
    await import(program);
  } else {
    const node = packagedNode();
    if (node === undefined)
      refuse(`Node ${NEEDED_MAJOR} is needed: install without --omit=optional, on Linux x64 or arm64`);
    else runUnder(node, program);
  }
}

/** Path of the packaged Node, or undefined where the platform package was not installed. */
function packagedNode() {
  try {
    const name = `node-linux-${process.arch}`;
    return join(dirname(createRequire(import.meta.url).resolve(`${name}/package.json`)), "bin", "node");
  } catch {
    return undefined;
  }
}

/** Waits for the real process and takes over its end; signals of the terminal reach it by themselves. */
function runUnder(node, program) {
  const child = spawn(node, [program, ...process.argv.slice(2)], { stdio: "inherit" });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    process.on(signal, () => {
      if (signal !== "SIGINT" || !process.stdin.isTTY) child.kill(signal);
    });
  }
  child.on("exit", (status, signal) =>
    process.exit(status ?? 128 + (signal ? constants.signals[signal] : 0)),
  );
}
