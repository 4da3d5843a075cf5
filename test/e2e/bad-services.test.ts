import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { openTestbed, waitFor } from "./testbed.ts";

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "bad-"));
});
afterAll(() => rm(directory, { recursive: true }));

/** An enclave.yaml with these services on the smallest base. */
async function yaml(name: string, services: string): Promise<string> {
  const path = join(directory, `${name}.yaml`);
  const head = `name: ${name}\nmode: development\nimage: { base: { debian: [] } }\nresources: { memory: 512MiB }\n`;
  await writeFile(path, `${head}services:\n${services}`);
  return path;
}

describe("services that misbehave", () => {
  test("one that exits at once for ever is a crash loop, and up -d says so with its last lines", async () => {
    await using bed = await openTestbed();
    const file = await yaml(
      "loop",
      `  a: { command: [sh, -c, "echo cannot go on; exit 3"], restart: always }\n`,
    );
    const up = await bed.run("up", file, "-d");
    expect(up.status).toBe(9);
    expect(up.stderr).toMatch(/E_HOST_SERVICE_FAILED/);
    expect(up.stderr).toMatch(/exited\(3\)/);
    expect(up.stderr).toContain("cannot go on");
    expect((await bed.ps())[0]?.runner.pid ?? null).toBeNull();
  });

  test("one whose program does not exist is named with the reason", async () => {
    await using bed = await openTestbed();
    const up = await bed.run("up", await yaml("absent", "  a: { command: [no-such-program] }\n"), "-d");
    expect(up.status).toBe(9);
    expect(up.stderr).toMatch(/ENOENT/);
  });

  test("one that ignores SIGTERM is killed after its grace period, with its children", async () => {
    await using bed = await openTestbed();
    const service = `  a: { command: [sh, -c, "trap '' TERM; sleep 1000 & while :; do sleep 1; done"], stop_grace_period: 300ms }\n`;
    await bed.succeed("up", await yaml("stubborn", service), "-d");
    await bed.succeed("stop", "stubborn");
    expect(await bed.ps()).toMatchObject([{ name: "stubborn", state: "stopped", runner: { pid: null } }]);
  });

  test("one that opens /dev/stdout and /dev/stderr by name is heard, also with a user of its own", async () => {
    await using bed = await openTestbed();
    const script = "echo by name > /dev/stdout; echo and the other >> /dev/stderr; exec sleep 1000";
    const user = process.getuid?.() === 0 ? ", user: nobody" : "";
    await bed.succeed(
      "up",
      await yaml("named", `  a: { command: [sh, -c, ${JSON.stringify(script)}]${user} }\n`),
      "-d",
    );
    await waitFor("both lines", async () => {
      const text = await bed.succeed("logs", "named");
      return text.includes("by name") && text.includes("and the other") ? true : undefined;
    });
  });

  test(
    "one that forks for ever is bounded; the enclave can be seen and stopped",
    { timeout: 240_000 },
    async () => {
      await using bed = await openTestbed();
      // Half a processor, where that can be had: other tests run at the same time.
      const file = await yaml(
        "bomb",
        `  a: { command: [sh, -c, "b() { b | b & sleep 1000; }; b"], cpus: 0.5 }\n`,
      );
      const up = await bed.run("up", file, "-d");
      // It runs into the limit on processes, or, where that holds, into the memory of the whole.
      const [service] = (await bed.status("bomb")).services;
      if (up.status === 0) expect(["running", "failed"]).toContain(service?.state);
      else expect(up.stderr).toMatch(/memory_exceeded|pids_exceeded/);
      await bed.succeed("down", "bomb");
      expect(await bed.ps()).toEqual([]);
    },
  );

  test(
    "one that prints 1 GB does not grow the enclave or its logs beyond their bounds",
    { timeout: 240_000 },
    async () => {
      await using bed = await openTestbed();
      const script = `yes ${"x".repeat(1000)} | head -c 1000000000; echo; echo done; exec sleep 1000`;
      await bed.succeed(
        "up",
        await yaml("loud", `  a: { command: [sh, -c, ${JSON.stringify(script)}] }\n`),
        "-d",
      );
      const last = async (): Promise<string | undefined> => {
        const text = await bed.succeed("logs", "loud", "--tail", "3");
        return text.includes("done") ? text : undefined;
      };
      await waitFor("the last line", last, 200_000);
      const record = await bed.status("loud");
      expect(record).toMatchObject({ state: "running", services: [{ state: "running", restarts: 0 }] });
      const { stdout } = await promisify(execFile)("du", [
        "-sk",
        join(bed.stateDir, "enclaves", "loud", "logs"),
      ]);
      expect(Number.parseInt(stdout, 10)).toBeLessThan(64 * 1024);
      expect(await residentMib(record.runner.pid ?? 0)).toBeLessThan(400);
    },
  );
});

async function residentMib(pid: number): Promise<number> {
  return Number(/VmRSS:\s+(\d+)/.exec(await readFile(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024;
}
