import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { execute, openEquippedSandbox, runInside, SELF, userOf } from "./execution.ts";
import { isRoot, openWorkshop, spawnAs, collect, type Workshop } from "./sandbox.ts";

const CAP_NET_BIND_SERVICE = 10;
const CAP_CHOWN = 0;
const SHOW = ["grep", "^Cap", "/proc/self/status"];

let workshop: Workshop;
beforeAll(async () => {
  workshop = await openWorkshop();
});
afterAll(() => workshop[Symbol.asyncDispose]());

const run = (options: readonly string[], ...command: string[]) =>
  execute(workshop.serviceExec, [...options, "--", ...command]);

/** The five sets as /proc shows them, each with the same value. */
const sets = (mask: string): string =>
  ["Inh", "Prm", "Eff", "Bnd", "Amb"].map((name) => `Cap${name}:\t${mask.padStart(16, "0")}\n`).join("");

describe.skipIf(!isRoot)("the capabilities of a service", () => {
  test.each([
    ["another uid", userOf(1000)],
    ["uid 0", userOf(0)],
    ["uid 0 without a change of identity", SELF],
  ])("are none, in no set, as %s", async (_name, identity) => {
    expect(await run(identity, ...SHOW)).toMatchObject({ stdout: sets("0"), error: "" });
  });

  test.each([
    ["another uid", userOf(1000)],
    ["uid 0", userOf(0)],
    ["uid 0 without a change of identity", SELF],
  ])("are exactly those that are named, as %s", async (_name, identity) => {
    const options = [...identity, "--cap", String(CAP_NET_BIND_SERVICE), "--cap", String(CAP_CHOWN)];
    expect(await run(options, ...SHOW)).toMatchObject({ stdout: sets("401"), error: "" });
  });

  test("let an ordinary user listen on a low port, and only with the one that is for that", async () => {
    // A loopback address of this process's own, so that no other test has the port.
    const address = `127.${(process.pid >> 16) & 255}.${(process.pid >> 8) & 255}.${process.pid & 255}`;
    const script = `net = require("node:net"); s = net.createServer().listen(80, "${address}", () => { console.log("listens"); s.close(); }).on("error", (e) => console.log(e.code))`;
    const node = (...options: string[]) => run([...userOf(1000), ...options], process.execPath, "-e", script);
    expect((await node()).stdout).toBe("EACCES\n");
    expect((await node("--cap", String(CAP_CHOWN))).stdout).toBe("EACCES\n");
    expect((await node("--cap", String(CAP_NET_BIND_SERVICE))).stdout).toBe("listens\n");
  });

  test("do not come back with a set-uid program", async () => {
    const { stdout } = await run(userOf(1000), "/bin/su", "-c", "true");
    expect(stdout).toBe("");
  });

  test("cannot be more than the supervisor has, or than the kernel knows", async () => {
    expect((await run([...userOf(1000), "--cap", "63"], "true")).error).toMatch(/^capabilities EINVAL/);
    const poorer = [
      "--bounding-set",
      "-chown",
      workshop.serviceExec,
      ...userOf(1000),
      "--cap",
      "0",
      "--",
      "true",
    ];
    expect((await execute("setpriv", poorer)).error).toMatch(/^capabilities EPERM/);
  });
});

describe.each(isRoot ? (["root", "ordinary"] as const) : (["ordinary"] as const))(
  "inside a sandbox that %s makes",
  (as) => {
    test("uid 0 has none", async () => {
      const { sandbox, agent } = await openEquippedSandbox(workshop, as);
      await using _ = sandbox;
      const { output, error } = await runInside(agent, [
        "/service-exec",
        ...SELF,
        "--",
        "/usr/bin/grep",
        "^Cap",
        "/proc/self/status",
      ]);
      expect({ output, error }).toEqual({ output: sets("0"), error: "" });
    });
  },
);

test("an ordinary user needs no privilege to start a service without any", async () => {
  const command = [
    workshop.serviceExec,
    ...SELF,
    "--",
    "grep",
    "-E",
    "^(CapEff|CapPrm|NoNew)",
    "/proc/self/status",
  ];
  const child = spawnAs("ordinary", command, ["ignore", "pipe", "pipe", "pipe"]);
  const [stdout, error] = await Promise.all([collect(child, 1), collect(child, 3)]);
  expect(error).toBe("");
  expect(stdout).toBe("CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\n");
});
