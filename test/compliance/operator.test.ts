/** What an operator does to a running enclave: look, run commands, copy files, change services, end it. */
import { createHash, randomBytes } from "node:crypto";
import { chmod, mkdir, readFile, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { EnclaveStatsSchema, EnclaveStatusSchema } from "../../wire/control-schemas.ts";
import { ROOT, runCommand, waitFor } from "../e2e/testbed.ts";
import { BACKENDS } from "./backends.ts";
import { type ComplianceEnclave, OPEN_TIMEOUT_MS, prepareEnclave, TEST_TIMEOUT_MS, WAIT_MS } from "./compliance-bed.ts"; // prettier-ignore
import { whyLacking } from "./differences.ts";

const MIB = 1024 ** 2;
const NAME = "operator";

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

function jsonLines(text: string): Record<string, unknown>[] {
  const lines = text.split("\n").filter((line) => line !== "");
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
}

describe.each(BACKENDS)("an operator on %s", { timeout: TEST_TIMEOUT_MS }, (backend) => {
  let enclave: ComplianceEnclave;
  let at: (...names: string[]) => string;
  const exec = async (...words: string[]) => await enclave.run("exec", ...words);
  /** Runs a shell line of the host, in which "pipeline" is ours with this enclave's state. */
  const shell = async (line: string) => {
    const command = enclave.bed.commandLine([]).map((word) => `'${word}'`);
    return await runCommand(["sh", "-c", line.replaceAll("pipeline", command.join(" "))]);
  };
  const pids = async (): Promise<Record<string, number | null>> =>
    Object.fromEntries((await enclave.inside()).services.map(({ name, pid }) => [name, pid]));

  beforeAll(async () => {
    enclave = await prepareEnclave(backend, NAME);
    at = (...names) => join(enclave.directory, ...names);
    await enclave.up();
  }, OPEN_TIMEOUT_MS);
  afterAll(() => enclave[Symbol.asyncDispose]());

  describe("looks", () => {
    test("status is the same on the host and inside", async () => {
      // It is the last to come up.
      const isReady = async () =>
        (await enclave.inside()).attestationServer.state === "ready" ? true : undefined;
      await waitFor("the attestation server", isReady, WAIT_MS);
      const inside = EnclaveStatusSchema.parse(JSON.parse(await enclave.sh("initctl status --json")));
      expect(inside).toEqual(await enclave.inside());
      expect(inside).toMatchObject({ name: NAME, mode: "development", stopping: false, overridden: false });
      expect(await enclave.status()).toMatchObject({
        backend,
        attestation: "development",
        isolated: inside.isolated,
      });
    });

    test("logs keep order and stream of each line, and a line without an end", async () => {
      const lines = jsonLines(await enclave.bed.succeed("logs", NAME, "-s", "talker", "--json"));
      const of = (stream: string) =>
        lines.filter((one) => one["stream"] === stream).map((one) => one["line"]);
      expect(of("stdout").slice(0, 3)).toEqual(["out 1", "out 2", "out 3"]);
      expect(of("stderr")).toEqual(["err 1", "err 2", "err 3"]);
    });

    test("logs end at a number of lines, and begin at a time", async () => {
      const tail = await enclave.bed.succeed("logs", NAME, "-s", "talker", "-n", "2", "--json");
      expect(jsonLines(tail)).toHaveLength(2);
      const all = await enclave.bed.succeed("logs", NAME, "-s", "talker", "--since", "1h", "--json");
      expect(jsonLines(all).length).toBeGreaterThanOrEqual(6);
      expect(await enclave.bed.succeed("logs", NAME, "-s", "talker", "--since", "1ms")).toBe("");
    });

    test("logs -f and events -f tell what comes", async () => {
      await using logs = enclave.follow("logs", NAME, "-f", "-s", "talker", "--tail", "0");
      await using events = enclave.follow("events", NAME, "-f", "--json");
      await events.until(/"talker"/);
      await enclave.initctl("restart", "talker");
      await logs.until(/out 1[^]*out 3/);
      await events.until(/stopped_by_operator[^]*"talker"[^]*running/);
    });

    test("events are numbered without a gap", async () => {
      const numbers = jsonLines(await enclave.initctl("events", "--json")).map((one) => Number(one["seq"]));
      expect(numbers.length).toBeGreaterThan(5);
      expect(numbers).toEqual(numbers.map((_number, index) => (numbers[0] ?? 0) + index));
    });

    test("stats measure the machine and each service", async ({ skip }) => {
      const why = whyLacking(backend, "cgroups");
      skip(why !== undefined, why);
      const { machine, services } = EnclaveStatsSchema.parse(JSON.parse(await enclave.initctl("stats", "--no-stream", "--json"))); // prettier-ignore
      expect(services.map((service) => service.name)).toEqual(["talker", "steady", "changing"]);
      expect(machine.memoryBytes).toBeGreaterThan(10 * MIB);
      for (const usage of services) {
        expect(usage.memoryBytes, usage.name).toBeGreaterThan(0);
        expect(usage.pids, usage.name).toBe(1);
        expect(usage.cpuUsec, usage.name).toBeGreaterThan(0);
      }
      expect(services[0]?.outputBytes).toBeGreaterThan(30);
    });
  });

  describe("runs commands", () => {
    test.each([
      ["its own status", ["sh", "-c", "exit 7"], 7],
      ["128 and the signal", ["sh", "-c", "kill -TERM $$"], 143],
      ["127 without a program", ["no-such-program"], 127],
      ["126 without permission", ["/etc/passwd"], 126],
    ])("exec ends with %s", async (_name, command, status) => {
      expect((await exec(NAME, "--", ...command)).status).toBe(status);
    });

    test("output and errors stay apart, input is empty, environment and directory are as asked", async () => {
      const script = "cat; echo $WORD; pwd; echo bad >&2";
      const { stdout, stderr } = await exec(
        "-e",
        "WORD=a b",
        "-w",
        "/var/tmp",
        NAME,
        "--",
        "sh",
        "-c",
        script,
      );
      expect({ stdout, stderr }).toEqual({ stdout: "a b\n/var/tmp\n", stderr: "bad\n" });
    });

    test("a user of choice, root of the enclave otherwise", async ({ skip }) => {
      expect(await enclave.sh("id -u")).toBe("0\n");
      const why = whyLacking(backend, "users");
      skip(why !== undefined, why);
      expect((await exec("-u", "1234:2345", NAME, "--", "sh", "-c", "id -u; id -g")).stdout).toBe(
        "1234\n2345\n",
      );
    });

    test("as a service, with what confines it", async ({ skip }) => {
      const why = whyLacking(backend, "users");
      skip(why !== undefined, why);
      const { user } = (await enclave.inside()).services.find(({ name }) => name === "steady") ?? {};
      const script = "id -u; cat /proc/self/status; ls /run/enclave";
      const { stdout } = await exec("-s", "steady", NAME, "--", "sh", "-c", script);
      expect(stdout.split("\n", 1)).toEqual([String(user?.uid)]);
      expect(stdout).toMatch(/CapBnd:\t0+\n[^]*Seccomp:\t2\n/);
    });

    test("10 MiB go in and come back unharmed", async () => {
      const bytes = randomBytes(10 * MIB);
      await writeFile(at("in"), bytes);
      const { status, stderr } = await shell(
        `pipeline exec -i ${NAME} -- cat < '${at("in")}' > '${at("out")}'`,
      );
      expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
      expect(sha256(await readFile(at("out")))).toBe(sha256(bytes));
    });

    test("a command whose client is ended is ended too", async () => {
      const count = async (): Promise<number> =>
        (await enclave.sh("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '")).split("sleep 135797")
          .length - 1;
      {
        await using client = enclave.follow("exec", NAME, "--", "sh", "-c", "echo begun; exec sleep 135797");
        await client.until(/begun/);
        expect(await count()).toBe(1);
      }
      await waitFor("its end", async () => ((await count()) === 0 ? true : undefined), WAIT_MS);
    });

    test("a terminal has sizes, Ctrl-C, job control and an exit status", async () => {
      const script = join(ROOT, "test", "fixtures", "compliance", "terminal.py");
      const command = enclave.bed.commandLine(["exec", "-it", NAME, "--", "sh"]);
      const { status, stdout, stderr } = await runCommand(["python3", script, ...command]);
      expect({ status, stderr }).toEqual({ status: 5, stderr: "" });
      expect(stdout).toMatch(/\/dev\/pts\/\d+\r\n30 100\r\n/);
      expect(stdout).toMatch(/interrupted by 130\r\n/);
    });
  });

  describe("copies files", () => {
    test("10 MiB go in and out unharmed", async () => {
      const bytes = randomBytes(10 * MIB);
      await writeFile(at("file"), bytes);
      await enclave.bed.succeed("cp", at("file"), `${NAME}:/var/tmp/`);
      expect(await enclave.sh("sha256sum < /var/tmp/file")).toContain(sha256(bytes));
      await enclave.bed.succeed("cp", `${NAME}:/var/tmp/file`, at("back"));
      expect(sha256(await readFile(at("back")))).toBe(sha256(bytes));
    });

    test("a tree keeps its modes and links", async () => {
      await mkdir(at("tree", "below"), { recursive: true });
      await writeFile(at("tree", "below", "program"), "#!/bin/sh\necho it runs\n");
      await chmod(at("tree", "below", "program"), 0o750);
      await symlink("below/program", at("tree", "link"));
      await enclave.bed.succeed("cp", at("tree"), `${NAME}:/opt/copied`);
      expect(await enclave.sh("/opt/copied/link")).toBe("it runs\n");
      await enclave.bed.succeed("cp", `${NAME}:/opt/copied`, at("again"));
      expect((await stat(at("again", "below", "program"))).mode & 0o777).toBe(0o750);
    });

    test.each([
      ["what does not exist", "/no/such", /E_ARCHIVE_NOT_FOUND/],
      ["a device", "/dev/null", /E_ARCHIVE_ENTRY/],
    ])("%s is refused with its reason", async (_name, path, message) => {
      const { status, stderr } = await enclave.run("cp", `${NAME}:${path}`, `${enclave.directory}/`);
      expect(status).not.toBe(0);
      expect(stderr).toMatch(message);
    });
  });

  describe("changes services", () => {
    test("a reload touches only what changed, and the image's own configuration comes back", async () => {
      const [before, original] = [await pids(), await readFile(enclave.file, "utf8")];
      await writeFile(enclave.file, original.replace('[sleep, "1000"]', '[sleep, "2000"]'));
      expect(JSON.parse(await enclave.initctl("reload", "--json"))).toMatchObject({
        changed: ["changing"],
        unchanged: ["talker", "steady"],
      });
      const after = await pids();
      expect(after).toEqual({ ...before, changing: after["changing"] });
      expect(after["changing"]).not.toBe(before["changing"]);
      expect((await enclave.inside()).overridden).toBe(true);
      await enclave.sh("initctl reload");
      expect((await enclave.inside()).overridden).toBe(false);
    });

    test("a reload that is refused changes nothing", async () => {
      const [before, original] = [await pids(), await readFile(enclave.file, "utf8")];
      await writeFile(enclave.file, original.replace("debian: []", "debian: [redis-server]"));
      const refused = await enclave.bed.runInitctl("reload", "--enclave", NAME);
      expect(refused.stderr).toContain("E_RELOAD_IMAGE");
      expect(await pids()).toEqual(before);
    });

    test("a service that does not exist is named with the one that was meant", async () => {
      const refused = await enclave.bed.runInitctl("restart", "stedy", "--enclave", NAME);
      expect(refused.status).not.toBe(0);
      expect(refused.stderr).toMatch(/E_SERVICE_UNKNOWN[^]*steady/);
    });
  });

  test("poweroff from inside stops services and machine, whose record tells it, and followers end", async () => {
    await using logs = enclave.follow("logs", NAME, "-f");
    await logs.until(/out 3/);
    const { runner } = await enclave.status();
    expect(runner.pid).not.toBeNull();
    await enclave.run("exec", NAME, "--", "initctl", "poweroff");
    const record = await enclave.untilState("stopped", "failed");
    expect(record).toMatchObject({ state: "stopped", runner: { pid: null } });
    expect(await logs.ended).toBe(0);
    expect(await enclave.remains()).toEqual([]);
  });
});
