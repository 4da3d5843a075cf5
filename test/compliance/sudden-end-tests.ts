/** Ends that come from outside, and what they leave: three of them, each after another start. */
import { once } from "node:events";
import { expect, test } from "vitest";

import { descendants, type ProcessInfo } from "../e2e/enclave-processes.ts";
import { isAlive, type Status, waitFor } from "../e2e/testbed.ts";
import { type BackendName, MACHINE_PROCESS } from "./backends.ts";
import { type ComplianceEnclave, ending, OPEN_TIMEOUT_MS } from "./compliance-bed.ts";

/** Issue 2: what was killed is told by `ps` within this time. */
const TRUTH_MS = 2_000;
const ECHO_PORT = 8001;

export function testSuddenEnds(backend: BackendName, enclave: () => ComplianceEnclave): void {
  const runnerPid = async (): Promise<number> => (await enclave().status()).runner.pid ?? 0;
  const echo = async (): Promise<void> => {
    const socket = enclave().dial(ECHO_PORT);
    socket.write("x");
    await once(socket, "data");
    socket.destroy();
  };
  const failure = async (): Promise<Status> =>
    await waitFor(
      "ps to tell",
      async () => (await enclave().bed.ps()).find((one) => one.state === "failed"),
      TRUTH_MS,
    );
  const expectNothingLeft = async (family: readonly ProcessInfo[]): Promise<void> => {
    expect(await enclave().remains()).toEqual([]);
    for (const { pid, command } of family) expect(await isAlive(pid), command).toBe(false);
  };

  test("a machine that is killed is told by ps in time, its connections end, and nothing is left", async () => {
    const family = await descendants(await runnerPid());
    const machine = family.find((one) => MACHINE_PROCESS[backend].test(one.command));
    expect(machine, family.map((one) => one.command).join("\n")).toBeDefined();
    const socket = enclave().dial(ECHO_PORT);
    socket.write("x");
    await once(socket, "data");
    const ended = ending(socket);
    process.kill(machine?.pid ?? 0, "SIGKILL");
    expect((await failure()).reason).toMatch(/SIGKILL/);
    await ended;
    socket.destroy();
    await expectNothingLeft(family);
  });

  test("logs and console are still to be read after the end", async () => {
    expect(await enclave().bed.succeed("logs", "traffic", "-s", "traffic")).toContain("client ended");
    expect(await enclave().bed.succeed("console", "traffic")).toMatch(/\S/);
  });

  test(
    "a runner that is killed takes its machine along, and ps tells it in time",
    { timeout: OPEN_TIMEOUT_MS },
    async () => {
      await enclave().up();
      await echo();
      const runner = await runnerPid();
      const family = await descendants(runner);
      process.kill(runner, "SIGKILL");
      expect((await failure()).reason).toMatch(/runner/);
      await expectNothingLeft(family);
    },
  );

  test(
    "an enclave that does not stop in the time that its operator gives it is killed",
    { timeout: OPEN_TIMEOUT_MS },
    async () => {
      await enclave().up();
      await echo();
      const family = await descendants(await runnerPid());
      await enclave().bed.succeed("stop", "traffic", "--timeout", "1s");
      expect(await enclave().bed.ps()).toMatchObject([{ name: "traffic", runner: { pid: null } }]);
      await expectNothingLeft(family);
    },
  );
}
