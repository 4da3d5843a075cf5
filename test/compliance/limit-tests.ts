/** Services of test/fixtures/compliance/walls that go beyond their limits. */
import { expect, test } from "vitest";
import { z } from "zod";

import { LimitStatusSchema } from "../../wire/control-schemas.ts";
import { waitFor } from "../e2e/testbed.ts";
import type { BackendName } from "./backends.ts";
import { type ComplianceEnclave, WAIT_MS } from "./compliance-bed.ts";
import { whyLacking } from "./differences.ts";

/** Service of the fixture, the reason for which it ends, whether that takes a cgroup. */
const LIMITS: readonly (readonly [string, string, boolean])[] = [
  ["memory", "memory_exceeded", true],
  ["pids", "pids_exceeded", true],
  ["cpu", "cpu_exceeded", true],
  ["clock", "wall_clock_exceeded", false],
  ["output", "output_exceeded", false],
  ["filter", "syscall_denied", false],
  ["crash", "crashed(SIGSEGV)", false],
  ["imitation", "exited(137)", false],
];

export function testLimits(backend: BackendName, enclave: () => ComplianceEnclave): void {
  test.each(LIMITS)(
    "%s ends with %s everywhere, and its neighbour goes on",
    async (name, reason, needsCgroup) => {
      const neighbour = await enclave().service("neighbour");
      if (needsCgroup && whyLacking(backend, "cgroups") !== undefined) {
        const { limits } = await enclave().service(name);
        expect(limits).toMatchObject([{ enforced: false, why: expect.stringMatching(/./) }]);
        return;
      }
      await enclave().initctl("start", name, "--no-wait");
      await enclave().untilService(
        name,
        (service) => service.state === "failed" && service.reason === reason,
      );
      expect(await enclave().initctl("status", "--json")).toContain(`"reason": "${reason}"`);
      const events = (await enclave().initctl("events", "--json")).split("\n");
      expect(events.filter((line) => line.includes(`"${name}"`)).join("\n")).toContain(reason);
      expect(await enclave().service("neighbour")).toEqual(neighbour);
    },
  );

  test("status tells which limits of the machine hold", async () => {
    const text = await enclave().bed.succeed("status", enclave().name, "--json");
    const { limits } = z.object({ limits: z.array(LimitStatusSchema) }).parse(JSON.parse(text));
    expect(limits.map((limit) => limit.name)).toEqual(expect.arrayContaining(["memory", "cpus"]));
    const holds = whyLacking(backend, "cgroups") === undefined;
    for (const { name, enforced, why } of limits)
      expect({ name, enforced, isExplained: why !== null }).toEqual({
        name,
        enforced: holds,
        isExplained: !holds,
      });
  });

  test("a share of CPU time slows down and ends nothing", async ({ skip }) => {
    const why = whyLacking(backend, "cgroups");
    skip(why !== undefined, why);
    await enclave().initctl("start", "slowed");
    const usage = async () => {
      const stats: unknown = JSON.parse(await enclave().initctl("stats", "--no-stream", "--json"));
      const { time, services } = z
        .object({
          time: z.number(),
          services: z.array(z.object({ name: z.string(), cpuUsec: z.number() })),
        })
        .parse(stats);
      return { time, cpuMs: (services.find((one) => one.name === "slowed")?.cpuUsec ?? 0) / 1000 };
    };
    const first = await usage();
    const last = await waitFor(
      "300 ms of CPU time",
      async () => {
        const now = await usage();
        return now.cpuMs - first.cpuMs >= 300 ? now : undefined;
      },
      WAIT_MS,
    );
    expect((last.cpuMs - first.cpuMs) / (last.time - first.time)).toBeLessThan(0.25);
    expect(await enclave().service("slowed")).toMatchObject({ state: "running", limits: [{ name: "cpus", enforced: true }] }); // prettier-ignore
    await enclave().initctl("stop", "slowed");
  });
}
