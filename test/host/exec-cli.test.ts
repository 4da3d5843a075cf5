import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { z } from "zod";

import { ROOT, waitFor } from "../e2e/testbed.ts";
import { FakeEnclave } from "./fake-enclave.ts";

let directory: string;
let enclave: FakeEnclave;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "ec-"));
  enclave = await FakeEnclave.open();
});
afterEach(async () => {
  await enclave[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

async function until(what: string, check: () => boolean): Promise<void> {
  await waitFor(what, async () => (check() ? true : undefined));
}

/** Runs a shell line in which `$PIPELINE` is the command. */
async function shell(line: string): Promise<{ status: number | null; stdout: Buffer }> {
  const [node, program, ...words] = enclave.commandLine("pipeline", []);
  const quoted = [node, program, ...words].map((word) => `'${word}'`).join(" ");
  const child = spawn("sh", ["-c", line.replaceAll("$PIPELINE", quoted)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const parts: Buffer[] = [];
  child.stdout.on("data", (part: Buffer) => parts.push(part));
  const status = await new Promise<number | null>((resolve) => child.once("close", resolve));
  return { status, stdout: Buffer.concat(parts) };
}

describe("pipeline exec", () => {
  test("has the command's output, errors and status", async () => {
    const result = await enclave.pipeline("exec", "fake", "--", "sh", "-c", "echo out; echo err >&2; exit 7");
    expect(result).toEqual({ status: 7, stdout: "out\n", stderr: "err\n" });
  });

  test("a signal that ended the command is 128 and its number", async () => {
    expect((await enclave.pipeline("exec", "fake", "--", "sh", "-c", "kill -9 $$")).status).toBe(137);
  });

  test("what is not there is 127, and is told", async () => {
    const result = await enclave.pipeline("exec", "fake", "--", "/no/such");
    expect(result.status).toBe(127);
    expect(result.stderr).toContain("/no/such: not executed");
  });

  test("its options reach the enclave", async () => {
    const options = ["-s", "web", "-u", "app", "-e", "A=1", "-e", "B=x=y", "-w", "/tmp"];
    await enclave.pipeline("exec", ...options, "fake", "--", "true", "-x", "--json");
    expect(enclave.gateway.bodies).toEqual([
      {
        command: ["true", "-x", "--json"],
        service: "web",
        user: "app",
        environment: { A: "1", B: "x=y" },
        workingDir: "/tmp",
      },
    ]);
  });

  test("-i passes a pipe on, byte for byte, and its end", async () => {
    const bytes = randomBytes(1_000_000);
    await writeFile(join(directory, "in"), bytes);
    const { stdout, status } = await shell(`cat '${directory}/in' | $PIPELINE exec -i fake -- cat`);
    expect(status).toBe(0);
    expect(stdout.equals(bytes)).toBe(true);
  });

  test("a reader that comes late gets everything", async () => {
    const { stdout } = await shell(
      "$PIPELINE exec fake -- head -c 3000000 /dev/zero | { sleep 0.5; wc -c; }",
    );
    expect(stdout.toString().trim()).toBe("3000000");
  });

  test("without -i the input of a pipe stays unread", async () => {
    const { stdout } = await shell("yes | $PIPELINE exec fake -- wc -c");
    expect(stdout.toString().trim()).toBe("0");
  });

  test.each([
    ["no command", ["exec", "fake"], /E_USAGE/],
    ["options without --", ["exec", "fake", "ls", "-x"], /hint: Write -- before the command/],
    ["-t without a terminal", ["exec", "-t", "fake", "--", "sh"], /-t needs a terminal[\s\S]*Leave -t out/],
    ["a variable without =", ["exec", "-e", "A", "fake", "--", "env"], /NAME=VALUE/],
    ["a directory that is not absolute", ["exec", "-w", "tmp", "fake", "--", "pwd"], /not absolute/],
  ])("%s is refused", async (_name, words, message) => {
    const result = await enclave.pipeline(...words);
    expect(result.status).toBe(2);
    expect(result.stderr).toMatch(message);
    expect(enclave.gateway.seen).toEqual([]);
  });

  test("SIGTERM of the command line ends the command", async () => {
    const [node, ...words] = enclave.commandLine("pipeline", ["exec", "fake", "--", "sleep", "1000"]);
    const child = spawn(node, words, { stdio: "ignore" });
    await until("the command to run", () => enclave.gateway.seen.includes("POST /v1/exec/1/start"));
    const ended = new Promise((resolve) => child.once("close", resolve));
    child.kill("SIGTERM");
    expect(await ended).toBe(130);
    expect(enclave.gateway.signals).toEqual(["SIGTERM"]);
  });
});

describe("pipeline exec -it in a real terminal", () => {
  const Shown = z.object({ shown: z.string(), status: z.number(), restored: z.boolean() });

  async function inTerminal(
    words: readonly string[],
    steps: readonly object[],
  ): Promise<z.infer<typeof Shown>> {
    const fixture = join(ROOT, "test/fixtures/host/in-terminal.py");
    const child = spawn("python3", [fixture, ...enclave.commandLine("pipeline", words)]);
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
    child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
    child.stdin.on("error", () => undefined);
    child.stdin.end(steps.map((step) => `${JSON.stringify(step)}\n`).join(""));
    await new Promise((resolve) => child.once("close", resolve));
    if (stderr !== "") throw new Error(stderr);
    return Shown.parse(JSON.parse(stdout));
  }
  const EXEC = ["exec", "-it", "fake", "--", "keys"];

  test("keys go to the command as they are typed, Ctrl-C among them, and the terminal is as before", async () => {
    const { shown, status, restored } = await inTerminal(EXEC, [
      { wait: "keys" },
      { raw: true },
      { send: "a\u0003\u0004\u001a\r" },
      { wait: "<d>" },
      { send: "q" },
    ]);
    expect(shown).toContain("<61><3><4><1a><d><71>");
    expect(status).toBe(5);
    expect(restored).toBe(true);
  });

  test("the size of the window goes with it, and every change of it", async () => {
    const ended = inTerminal(EXEC, [{ wait: "keys" }, { raw: true }, { size: [50, 132] }]);
    await until("both sizes", () => enclave.gateway.sizes.length === 2);
    enclave.gateway.finishKeys();
    expect((await ended).status).toBe(5);
    expect(enclave.gateway.sizes).toEqual([
      { rows: 30, columns: 100 },
      { rows: 50, columns: 132 },
    ]);
    expect(enclave.gateway.bodies).toEqual([
      { command: ["keys"], tty: true, environment: { TERM: "xterm" } },
    ]);
  });

  test("the terminal is as before when the connection breaks", async () => {
    const ended = inTerminal(EXEC, [{ wait: "keys" }, { raw: true }, { send: "!" }]);
    const { status, restored, shown } = await ended;
    expect(restored).toBe(true);
    expect(shown).toContain("E_CONTROL_LOST");
    expect(status).toBe(9);
  });

  test("the terminal is as before when the command line is told to end", async () => {
    const { status, restored } = await inTerminal(EXEC, [
      { wait: "keys" },
      { raw: true },
      { kill: "SIGTERM" },
    ]);
    expect(restored).toBe(true);
    expect(status).toBe(130);
  });
});

describe("pipeline cp", () => {
  test("copies in and out, also as a stream of standard input and output", async () => {
    const bytes = randomBytes(300_000);
    await writeFile(join(directory, "a"), bytes);
    const into = await enclave.pipeline("cp", join(directory, "a"), `fake:${directory}/b`, "--json");
    expect(JSON.parse(into.stdout)).toEqual({ entries: 1, bytes: bytes.length });
    const out = await enclave.pipeline("cp", `fake:${directory}/b`, join(directory, "c"));
    expect(out.status).toBe(0);
    expect(out.stderr).toMatch(/copied 1 entry, 293 KiB/);
    expect((await readFile(join(directory, "c"))).equals(bytes)).toBe(true);
    const { status } = await shell(
      `$PIPELINE cp 'fake:${directory}/c' - | $PIPELINE cp - 'fake:${directory}/d'`,
    );
    expect(status).toBe(0);
    expect((await readFile(join(directory, "d"))).equals(bytes)).toBe(true);
  });

  test.each([
    ["no enclave", ["a", "b"], /neither operand names an enclave/],
    ["two enclaves", ["a:/x", "b:/y"], /both operands/],
    ["a path inside that is not absolute", ["a:x", "y"], /neither NAME:\/path nor a local path/],
    ["a name that is none", ["A b:/x", "y"], /neither NAME:\/path/],
  ])("%s is refused", async (_name, words, message) => {
    const result = await enclave.pipeline("cp", ...words);
    expect(result.status).toBe(2);
    expect(result.stderr).toMatch(message);
  });

  test("a source that is not there is told, on both sides", async () => {
    for (const words of [
      ["/no/such", "fake:/tmp/x"],
      ["fake:/no/such", join(directory, "x")],
    ]) {
      const result = await enclave.pipeline("cp", ...words);
      expect(result.status).toBe(5);
      expect(result.stderr).toContain("E_ARCHIVE_NOT_FOUND");
    }
  });
});

describe("what follows an enclave", () => {
  test("attach shows what a service prints, until the enclave ends it", async () => {
    enclave.gateway.attachWith("out\n", "err\n");
    expect(await enclave.pipeline("attach", "fake", "web")).toEqual({
      status: 0,
      stdout: "out\n",
      stderr: "err\n",
    });
  });

  test("attach to a service that is not there suggests one", async () => {
    const result = await enclave.pipeline("attach", "fake", "wbe");
    expect(result.status).toBe(5);
    expect(result.stderr).toMatch(/E_SERVICE_UNKNOWN.*did you mean "web"/);
  });

  test("events and samples are lines of JSON with --json", async () => {
    enclave.gateway.events.push({ seq: 1, time: 1, type: "service", service: "web", message: "running" });
    expect(JSON.parse((await enclave.pipeline("events", "fake", "--json")).stdout)).toMatchObject({ seq: 1 });
    expect((await enclave.pipeline("events", "fake")).stdout).toBe(
      "1970-01-01T00:00:00.001Z  web  running\n",
    );
    const sample: unknown = JSON.parse((await enclave.pipeline("stats", "--no-stream", "--json")).stdout);
    expect(sample).toMatchObject({
      name: "fake",
      machine: { pids: 2 },
      services: [{ name: "web" }, { name: "redis" }],
    });
  });

  test("stats is a table of all that run, with rates from two samples", async () => {
    const { stdout } = await enclave.pipeline("stats", "--interval", "100ms");
    expect(stdout).toMatch(/^ENCLAVE +SERVICE +CPU +MEMORY/);
    expect(stdout).toMatch(/fake +web +0\.0% +1\.00 MiB +2\.00 MiB +50\.0% +2\/64/);
  });
});

describe("an enclave that cannot be asked", () => {
  test.each([
    ["is not there", "fkae", {}, /^5 .*E_HOST_NOT_FOUND.*did you mean "fake"/],
    ["has ended", "over", { state: "stopped" as const }, /^6 .*E_HOST_NOT_RUNNING.*it is stopped/],
    ["is in production", "prod", { mode: "production" as const }, /^4 .*E_CONTROL_CLOSED/],
  ])("one that %s is refused", async (_title, name, change, message) => {
    if (name !== "fkae") await enclave.record(name, change);
    const result = await enclave.pipeline("exec", name, "--", "true");
    expect(`${result.status} ${result.stderr}`).toMatch(message);
  });
});
