import { spawn } from "node:child_process";
import { access, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";

import { claimName } from "../../host/state/record-store.ts";
import { isAlive, openTestbed, ROOT, type Testbed, waitFor } from "../e2e/testbed.ts";

const HELLO = join(ROOT, "examples", "hello", "enclave.yaml");
const STUBBORN = join(ROOT, "test", "fixtures", "host", "stubborn", "enclave.yaml");
const ANY_PORT = ["-p", "127.0.0.1:0:8080"];

/** Starts a command and gives its output while it runs. */
function start(bed: Testbed, words: readonly string[]) {
  const [program, ...rest] = bed.commandLine(words);
  const child = spawn(program, rest, { stdio: ["ignore", "pipe", "pipe"] });
  const ended = Promise.withResolvers<number | null>();
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (chunk: string) => (output += chunk));
  child.once("error", ended.reject);
  child.once("close", (status) => ended.resolve(status));
  const said = async (text: string): Promise<unknown> =>
    await waitFor(text, async () => (output.includes(text) ? true : undefined), 120_000);
  return { child, ended: ended.promise, said, output: () => output };
}

/** Processes that name the state directory on their command line: runners and launchers. */
async function processesOf(bed: Testbed): Promise<number[]> {
  const found: number[] = [];
  for (const entry of await readdir("/proc")) {
    const words = await readFile(`/proc/${entry}/cmdline`, "utf8").catch(() => "");
    if (words.includes(join(bed.stateDir, "enclaves"))) found.push(Number(entry));
  }
  return found;
}

test("of several ups of one stopped enclave one wins, and the others are told", async () => {
  await using bed = await openTestbed();
  await bed.succeed("up", HELLO, "-d", ...ANY_PORT);
  for (let round = 0; round < 3; round += 1) {
    await bed.succeed("stop", "hello");
    const results = await Promise.all(
      Array.from({ length: 4 }, async () => await bed.run("up", HELLO, "-d", ...ANY_PORT)),
    );
    expect(results.map((one) => one.status).toSorted((a, b) => (a ?? -1) - (b ?? -1))).toEqual([0, 6, 6, 6]);
    for (const { status, stderr } of results)
      if (status !== 0) expect(stderr).toMatch(/E_HOST_NAME_IN_USE.*hello/);
    expect(await bed.ps()).toMatchObject([{ name: "hello", state: "running" }]);
  }
});

test("what an up left that was killed before its runner began does not keep the name", async () => {
  await using bed = await openTestbed();
  await claimName(bed.stateDir, "hello");
  await bed.succeed("up", HELLO, "-d", ...ANY_PORT);
  expect((await bed.status("hello")).state).toBe("running");
});

test.each([
  ["in the foreground", [], "stopped"],
  ["detached", ["-d"], "failed"],
])("Ctrl-C as the runner is being started is not lost: %s", async (_title, flags, state) => {
  await using bed = await openTestbed();
  const up = start(bed, ["--verbose", "up", HELLO, ...flags, ...ANY_PORT]);
  await up.said("starting hello");
  up.child.kill("SIGINT");
  expect(await up.ended).toBe(130);
  await waitFor("the end of the runner", async () =>
    (await processesOf(bed)).length === 0 ? true : undefined,
  );
  // The name is not taken yet if the signal was quick, and then there is no record at all.
  for (const record of await bed.ps()) expect(record).toMatchObject({ state, runner: { pid: null } });
});

test("a second Ctrl-C kills a service that does not stop", async () => {
  await using bed = await openTestbed();
  const up = start(bed, ["up", STUBBORN]);
  await up.said("stubborn is up");
  const family = await processesOf(bed);
  expect(family.length).toBeGreaterThanOrEqual(2);
  up.child.kill("SIGINT");
  await up.said("asked to stop");
  up.child.kill("SIGINT");
  expect(await up.ended).toBe(130);
  await waitFor("the end of the enclave", async () =>
    (await Promise.all(family.map(isAlive))).includes(true) ? undefined : true,
  );
  expect(await bed.ps()).toMatchObject([{ state: "stopped", reason: expect.stringContaining("killed") }]);
});

test("down goes on after a name that it does not know, and tells of it", async () => {
  await using bed = await openTestbed();
  await bed.succeed("up", HELLO, "-d", ...ANY_PORT);
  const down = await bed.run("down", "nobody", "hello");
  expect(down.stdout).toBe("hello is gone\n");
  expect(down.stderr).toContain("E_HOST_NOT_FOUND");
  expect(down.status).toBe(5);
  await expect(access(join(bed.stateDir, "enclaves", "hello"))).rejects.toThrow("ENOENT");
});

test("down ends an enclave whose runner's socket is gone", async () => {
  await using bed = await openTestbed();
  await bed.succeed("up", HELLO, "-d", ...ANY_PORT);
  const { runner } = await bed.status("hello");
  const socket = join(bed.stateDir, "enclaves", "hello", "runner.sock");
  await rm(socket);
  expect(await bed.succeed("down", "hello")).toBe("hello is gone\n");
  expect(await isAlive(runner.pid ?? 0)).toBe(false);
});
