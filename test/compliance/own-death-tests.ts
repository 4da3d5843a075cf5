/** The toolkit's own processes inside an enclave, killed by root of the enclave; the last test ends the machine. */
import { expect, test } from "vitest";

import { waitFor } from "../e2e/testbed.ts";
import { type ComplianceEnclave, WAIT_MS } from "./compliance-bed.ts";

export function testOwnDeaths(enclave: () => ComplianceEnclave): void {
  test("a gateway is replaced while services go on", async () => {
    const { gateway, services } = await enclave().inside();
    await enclave().run("exec", "walls", "--", "sh", "-c", `kill -9 ${gateway.pid}`);
    const told = await waitFor("the next gateway", async () => {
        const status = await enclave().inside().catch(() => undefined);
        return status !== undefined && status.gateway.restarts === 1 ? status : undefined;
      }, WAIT_MS); // prettier-ignore
    expect(told.services.map((service) => service.pid)).toEqual(services.map((service) => service.pid));
    expect((await enclave().runInService("echo", "answered")).output).toBe("answered\n");
  });

  test("a supervisor that dies is started again, with its services, and status says so", async () => {
    const { supervisor } = await enclave().inside();
    // Services that go beyond a limit do so from their second start on; here they begin anew.
    const script = `rm -f /tmp/started-*; kill -9 ${supervisor.pid}`;
    await enclave().run("exec", "walls", "--", "sh", "-c", script);
    await waitFor("the next supervisor", () => restarted(enclave(), supervisor.restarts + 1), WAIT_MS).catch(
      async (error: unknown) => {
        throw new Error(JSON.stringify(await enclave().status()), { cause: error });
      },
    );
    await enclave().untilService("probe", (service) => service.health === "healthy");
    expect((await enclave().runInService("echo", "answered")).output).toBe("answered\n");
  });

  test("a supervisor that dies again and again ends the machine, and its record says why", async () => {
    const { supervisor } = await enclave().inside();
    const script = `echo 'process.exit(3)' > /opt/enclave/supervisor.mjs; kill -9 ${supervisor.pid}`;
    await enclave().run("exec", "walls", "--", "sh", "-c", script);
    const { state, reason } = await enclave().untilState("failed", "stopped");
    expect(state).toBe("failed");
    expect(reason).toMatch(/^supervisor_crash_loop: .* the last time it exited\(3\)$/);
    expect(await enclave().remains()).toEqual([]);
  });
}

async function restarted(enclave: ComplianceEnclave, times: number): Promise<true | undefined> {
  const { state, reason } = await enclave.status();
  const told = new RegExp(`supervisor.*SIGKILL.*restarted ${times} time`);
  return (state === "running" && told.test(reason ?? "")) || undefined;
}
