import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";

import { eventually } from "../enclave/eventually.ts";

const LAUNCHER = join(import.meta.dirname, "..", "..", "native", "build", "launcher");

/** A command that prints its process id and descriptors, then waits for its input to end. */
const SCRIPT = 'echo $$; ls /proc/$$/fd | tr "\\n" " "; echo; exec sleep 1000';

function start(words: readonly string[]) {
  const child = spawn(LAUNCHER, ["guard", ...words], { stdio: ["ignore", "pipe", "pipe", "pipe", "pipe"] });
  let text = "";
  child.stdout?.on("data", (chunk: Buffer) => (text += chunk.toString()));
  const pid = async (): Promise<number> =>
    Number((await eventually("the command's words", () => /^(\d+)\n.*\n/.exec(text)))[1]);
  return { child, pid, text: () => text, closed: once(child, "close") };
}

async function isGone(pid: number): Promise<boolean> {
  return await readFile(`/proc/${pid}/stat`, "utf8").then(
    (stat) => stat.includes(") Z "),
    () => true,
  );
}

test("a guarded command has the standard descriptors alone, and its status is the launcher's", async () => {
  const { child, closed, text } = start([
    "--lifeline-fd",
    "3",
    "--report-fd",
    "4",
    "--",
    "sh",
    "-c",
    "ls /proc/self/fd; exit 7",
  ]);
  await closed;
  expect(child.exitCode).toBe(7);
  // The last is the folder that `ls` reads.
  expect(text().trim().split(/\s+/)).toEqual(["0", "1", "2", "3"]);
});

test("a guarded command runs as the caller, in the caller's namespaces", async () => {
  const { closed, text } = start(["--", "sh", "-c", "id -u; readlink /proc/self/ns/user /proc/self/ns/pid"]);
  await closed;
  const { stdout } = spawn("readlink", ["/proc/self/ns/user", "/proc/self/ns/pid"]);
  let own = "";
  for await (const chunk of stdout) own += String(chunk);
  expect(text()).toBe(`${process.getuid?.()}\n${own}`);
});

test.each(["the lifeline", "the launcher"])("a guarded command ends with %s", async (what) => {
  const { child, pid, closed } = start(["--lifeline-fd", "3", "--", "sh", "-c", SCRIPT]);
  const command = await pid();
  expect((await readdir(`/proc/${command}/fd`)).toSorted()).toEqual(["0", "1", "2"]);
  if (what === "the lifeline") child.stdio[3]?.destroy();
  else child.kill("SIGKILL");
  await closed;
  await eventually("the command's end", async () => await isGone(command));
  if (what === "the lifeline") expect(child.exitCode).toBe(128 + 9);
});

test("a guarded command that cannot be run is told with its name", async () => {
  const { child, closed } = start(["--report-fd", "4", "--", "/nonexistent/program"]);
  let report = "";
  const channel = child.stdio[4];
  channel?.on("data", (chunk: Buffer) => (report += chunk.toString()));
  await closed;
  expect(report).toBe("E exec 2 ENOENT /nonexistent/program\n");
  expect(child.exitCode).toBe(125);
});

test("a guarded command takes no maps", async () => {
  const { child, closed } = start(["--map", "self", "--", "true"]);
  await closed;
  expect(child.exitCode).toBe(125);
});
