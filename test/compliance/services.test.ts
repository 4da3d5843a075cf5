/** What services are given, how their ends are treated, and in which order they come and go. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { waitFor } from "../e2e/testbed.ts";
import { BACKENDS } from "./backends.ts";
import { type ComplianceEnclave, OPEN_TIMEOUT_MS, prepareEnclave, TEST_TIMEOUT_MS, WAIT_MS } from "./compliance-bed.ts"; // prettier-ignore
import { whyLacking } from "./differences.ts";

describe.each(BACKENDS)("services on %s", { timeout: TEST_TIMEOUT_MS }, (backend) => {
  let enclave: ComplianceEnclave;
  const linesOf = async (service: string): Promise<string[]> => {
    const text = await enclave.bed.succeed("logs", "services", "-s", service, "--json");
    const lines = text.split("\n").filter((line) => line !== "");
    return lines.map((line) => (JSON.parse(line) as { line: string }).line);
  };
  const eventsOf = async (service: string): Promise<string[]> => {
    const text = await enclave.bed.succeed("events", "services", "--json");
    const events = text.split("\n").filter((line) => line.includes(`"service":"${service}"`));
    return events.map((line) => (JSON.parse(line) as { message: string }).message);
  };
  const breakService = async (name: string): Promise<void> => {
    const { pid } = await enclave.service(name);
    await enclave.sh(`: > /tmp/break-${name}; kill -KILL ${pid}`);
  };

  beforeAll(async () => {
    enclave = await prepareEnclave(backend, "services");
    await enclave.up();
  }, OPEN_TIMEOUT_MS);
  afterAll(() => enclave[Symbol.asyncDispose]());

  test("up returns once every service is healthy, or has done its work", async () => {
    const status = await enclave.status();
    expect(status).toMatchObject({
      name: "services",
      state: "running",
      backend,
      mode: "development",
      reason: null,
    });
    expect(status.services.map(({ name, state, health }) => [name, state, health])).toEqual([
      ["first", "exited", "none"],
      ["second", "running", "healthy"],
      ["third", "running", "healthy"],
      ["fourth", "running", "healthy"],
      ["fickle", "running", "healthy"],
      ...["once", "thrice", "loop", "signalled", "stubborn"].map((name) => [name, "running", "none"]),
    ]);
  });

  test("a service gets its directory, environment and host name, and nothing else", async () => {
    const lines = await linesOf("first");
    expect(lines.slice(1)).toEqual([
      "directory /var/tmp",
      "environment EMPTY GREETING HOME PATH USER ",
      "greeting two words",
      "host services",
    ]);
  });

  test("a service runs as the user that it names", async ({ skip }) => {
    const why = whyLacking(backend, "users");
    skip(why !== undefined, why);
    expect((await linesOf("first"))[0]).toBe("user 1234:2345");
  });

  test("each starts when what it depends on has ended well, or is healthy", async () => {
    const text = await enclave.bed.succeed("events", "services", "--json");
    const happened = text
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as { service: string | null; message: string })
      .map(({ service, message }) => `${service ?? ""} ${message}`);
    const order = ["first exited", "second starting", "second healthy", "third starting", "third healthy", "fourth starting"]; // prettier-ignore
    const places = order.map((start) => happened.findIndex((line) => line.startsWith(start)));
    expect(places, happened.join("\n")).toEqual(places.toSorted((a, b) => a - b));
    expect(places).not.toContain(-1);
  });

  test("a health check that fails makes its service unhealthy, and the enclave tells whom", async () => {
    await enclave.sh(": > /tmp/sick");
    await enclave.untilService("fickle", (service) => service.health === "unhealthy");
    expect(await enclave.status()).toMatchObject({
      state: "unhealthy",
      reason: expect.stringMatching(/fickle/),
    });
    await enclave.sh("rm /tmp/sick");
    await enclave.untilService("fickle", (service) => service.health === "healthy");
    expect(await enclave.status()).toMatchObject({ state: "running", reason: null });
  });

  test("without a restart policy an end is the end, with its reason", async () => {
    await breakService("once");
    const { restarts, reason } = await enclave.untilService("once", (service) => service.state === "failed");
    expect({ restarts, reason }).toEqual({ restarts: 0, reason: "crashed(SIGKILL)" });
  });

  test("restarts are counted and end at their maximum", async () => {
    await breakService("thrice");
    const { restarts, reason } = await enclave.untilService(
      "thrice",
      (service) => service.state === "failed",
    );
    expect({ restarts, reason }).toEqual({ restarts: 2, reason: "exited(4)" });
  });

  test("a service that ends again and again waits longer each time, and is a crash loop", async () => {
    await breakService("loop");
    const { reason } = await enclave.untilService("loop", (service) => service.state === "crash_loop");
    expect(reason).toBe("exited(3)");
    const events = await eventsOf("loop");
    const backoffs = events.filter((message) => message.startsWith("backoff"));
    expect(backoffs.length, events.join("\n")).toBeGreaterThan(1);
    expect(backoffs[0]).toContain("crashed(SIGKILL)");
    expect(backoffs[1]).toContain("exited(3)");
    await enclave.sh("rm /tmp/break-loop");
    await enclave.initctl("restart", "loop");
    expect(await enclave.service("loop")).toMatchObject({ state: "running" });
  });

  test("orphans are adopted by init and reaped", async () => {
    const pid = Number(await enclave.sh("(sleep 0.1 & echo $!); true"));
    expect(pid).toBeGreaterThan(1);
    await waitFor(
      "the orphan to be reaped",
      async () => ((await enclave.sh(`[ -e /proc/${pid} ] || echo gone`)) === "gone\n" ? true : undefined),
      WAIT_MS,
    );
    // Whatever ends just now is a zombie for a moment; none stays one.
    await waitFor(
      "no zombie",
      async () => {
        const states = await enclave.sh("cat /proc/[0-9]*/status 2>/dev/null || true");
        expect(states).toMatch(/^State:\s+S/m);
        return /^State:\s+Z/m.test(states) ? undefined : true;
      },
      WAIT_MS,
    );
  });

  test("a stop sends the service's own signal", async () => {
    await enclave.initctl("stop", "signalled");
    // The host's record follows what the enclave tells.
    const stopped = await enclave.untilService("signalled", ({ state }) => state === "stopped");
    expect(stopped.reason).toBe("stopped_by_operator");
    expect(await linesOf("signalled")).toEqual(["told by SIGUSR1"]);
  });

  test("a service that ignores its signal is killed after its grace period, with its children", async () => {
    await enclave.initctl("stop", "stubborn");
    expect((await enclave.untilService("stubborn", ({ state }) => state === "stopped")).pid).toBe(null);
    const commands = await enclave.sh("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '");
    expect(commands).toContain("sleep infinity");
    expect(commands).not.toContain("sleep 987654");
  });

  test("a restart leads to a healthy service again, and its dependents keep their pids", async () => {
    const [second, third] = [await enclave.service("second"), await enclave.service("third")];
    await enclave.initctl("restart", "second");
    expect(await enclave.service("second")).toMatchObject({ state: "running", health: "healthy" });
    expect((await enclave.service("second")).pid).not.toBe(second.pid);
    expect((await enclave.service("third")).pid).toBe(third.pid);
  });

  test("initctl inside the enclave stops and starts services as on the host", async () => {
    await enclave.sh("initctl stop fourth");
    expect((await enclave.bed.runInitctl("is-active", "fourth", "--enclave", "services")).status).toBe(3);
    await enclave.sh("initctl start fourth");
    expect((await enclave.bed.runInitctl("is-active", "fourth", "--enclave", "services")).status).toBe(0);
  });

  test("stop ends services in reverse order, keeps record and logs, and down leaves nothing", async () => {
    await enclave.bed.succeed("stop", "services");
    expect(await enclave.bed.ps()).toMatchObject([{ name: "services", state: "stopped", reason: null, runner: { pid: null } }]); // prettier-ignore
    const all = await enclave.bed.succeed("logs", "services");
    const places = ["fourth goes", "third goes", "second goes"].map((text) => all.lastIndexOf(text));
    expect(places, all).not.toContain(-1);
    expect(places).toEqual(places.toSorted((a, b) => a - b));
    await enclave.bed.succeed("down", "services");
    expect(await enclave.remains()).toEqual([]);
    expect(await enclave.records()).toEqual([]);
    expect(await enclave.bed.ps()).toEqual([]);
  });
});
