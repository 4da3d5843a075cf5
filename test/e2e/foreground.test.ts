import { spawn } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";

import { openTestbed, ROOT, type Testbed, waitFor } from "./testbed.ts";

const HELLO = join(ROOT, "examples", "hello", "enclave.yaml");

/** `up` in the foreground; resolves once the service said that it listens. */
async function upInForeground(bed: Testbed) {
  const [program, ...words] = bed.commandLine(["up", HELLO, "-p", "127.0.0.1:0:8080"]);
  const child = spawn(program, words, { stdio: ["ignore", "pipe", "pipe"] });
  const ended = Promise.withResolvers<number | null>();
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => (output += chunk));
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => (output += chunk));
  child.once("error", ended.reject);
  child.once("close", (status) => ended.resolve(status));
  await waitFor(
    "the service to listen",
    async () => (output.includes("listening on 8080") ? true : undefined),
    120_000,
  );
  return { child, ended: ended.promise, output: () => output };
}

test("up streams the services' output, and Ctrl-C stops them in order with exit status 130", async () => {
  await using bed = await openTestbed();
  const up = await upInForeground(bed);
  expect(up.output()).toMatch(/hello.*listening on 8080/);
  up.child.kill("SIGINT");
  expect(await up.ended).toBe(130);
  expect(up.output()).toContain("closing");
  expect(await bed.ps()).toMatchObject([{ name: "hello", state: "stopped", runner: { pid: null } }]);
});

test("when a foreground up is killed its enclave stops too", async () => {
  await using bed = await openTestbed();
  const up = await upInForeground(bed);
  up.child.kill("SIGKILL");
  await up.ended;
  const record = await waitFor("the enclave to stop", async () => {
    const [one] = await bed.ps();
    return one?.state === "stopped" || one?.state === "failed" ? one : undefined;
  });
  expect(record.runner.pid).toBeNull();
});
