import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { z } from "zod";

import { fetchText, openTestbed, ROOT, StatusJson, type Testbed, waitFor } from "./testbed.ts";

const PROBE = join(ROOT, "test", "fixtures", "e2e", "probe", "enclave.yaml");
const RunResult = z.object({ status: z.number().nullable(), output: z.string() });

let bed: Testbed;
let port: number;

beforeAll(async () => {
  bed = await openTestbed();
  const status = StatusJson.parse(JSON.parse(await bed.succeed("up", PROBE, "-d", "--json")));
  port = status.ports[0]?.hostPort ?? 0;
});
afterAll(() => bed[Symbol.asyncDispose]());

async function run(...words: string[]): Promise<z.infer<typeof RunResult>> {
  const query = words.map((word) => `arg=${encodeURIComponent(word)}`).join("&");
  return RunResult.parse(JSON.parse(await fetchText(port, `/run?${query}`)));
}

async function readInside(path: string): Promise<string> {
  return await fetchText(port, `/read?path=${encodeURIComponent(path)}`);
}

test("no network interface but loopback, and nothing beyond it reaches a service of the enclave", async () => {
  const devices = (await readInside("/proc/net/dev"))
    .split("\n")
    .slice(2)
    .filter((line) => line !== "");
  expect(devices.map((line) => line.split(":", 1)[0]?.trim())).toEqual(["lo"]);
  const script = `
    const net = require("node:net");
    const server = net.createServer(() => console.log("reached"));
    server.listen(4443, "0.0.0.0", () => net.connect(4443, "198.18.0.5").resume()
      .on("error", (e) => { console.log(e.code); server.close(); }));`;
  expect(await run("node", "-e", script)).toEqual({ status: 0, output: "ECONNRESET\n" });
});

test("PID 1 is our init, with less than 2 MiB resident", async () => {
  expect((await readInside("/proc/1/cmdline")).split("\0", 1)[0]).toBe("/opt/enclave/init");
  const resident = /VmRSS:\s+(\d+) kB/.exec(await readInside("/proc/1/status"))?.[1];
  expect(Number(resident)).toBeGreaterThan(0);
  expect(Number(resident)).toBeLessThan(2048);
});

test("orphans are adopted and reaped by init", async () => {
  const { output } = await run("sh", "-c", "(sleep 0.05 & echo $!) ; true");
  const pid = Number(output.trim());
  expect(pid).toBeGreaterThan(1);
  await waitFor("the orphan to be reaped", async () => {
    const { status } = await run("test", "-e", `/proc/${pid}`);
    return status === 1 ? true : undefined;
  });
});

test("the root is an overlay on tmpfs: writable, while the image stays as it is", async () => {
  const root = (await readInside("/proc/self/mountinfo"))
    .split("\n")
    .find((line) => line.split(" ")[4] === "/");
  expect(root).toContain(" - overlay ");
  const write = "echo changed > /etc/hostname && cat /etc/hostname";
  expect(await bed.succeed("exec", "probe", "--", "sh", "-c", write)).toBe("changed\n");
  await bed.succeed("stop", "probe");
  const status = StatusJson.parse(JSON.parse(await bed.succeed("up", PROBE, "-d", "--json")));
  port = status.ports[0]?.hostPort ?? 0;
  expect(await readInside("/etc/hostname")).toBe("probe\n");
});

test("no file of the host is to be seen", async () => {
  const mounts = await readInside("/proc/self/mountinfo");
  expect(mounts).not.toContain(bed.stateDir);
  expect((await run("test", "-e", join(ROOT, "package.json"))).status).toBe(1);
});

test("a service has no descriptors but its own three, no new privileges, and only its own environment", async () => {
  const status = await readInside("/proc/self/status");
  expect(status).toMatch(/NoNewPrivs:\s+1/);
  const environment = (await readInside("/proc/self/environ"))
    .split("\0")
    .map((pair) => pair.split("=", 1)[0]);
  expect(
    environment.filter((name) => name !== "").toSorted((a, b) => (a ?? "").localeCompare(b ?? "")),
  ).toEqual(["HOME", "PATH", "PORT", "USER"]);
  const { output } = await run("sh", "-c", "ls /proc/self/fd");
  expect(output.trim().split(/\s+/)).toEqual(["0", "1", "2", "3"]); // 3 is the directory that ls reads
});
