import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { fetchText, openTestbed, ROOT, StatusJson, type Status, type Testbed } from "./testbed.ts";

const HELLO = join(ROOT, "examples", "hello", "enclave.yaml");

describe("the hello example", () => {
  let bed: Testbed;
  let status: Status;

  beforeAll(async () => {
    bed = await openTestbed();
    const up = await bed.succeed("up", HELLO, "-d", "--json", "-p", "127.0.0.1:0:8080");
    status = StatusJson.parse(JSON.parse(up));
  });
  afterAll(() => bed[Symbol.asyncDispose]());

  test("up -d --json prints what runs once it is healthy", () => {
    expect(status).toMatchObject({
      name: "hello",
      state: "running",
      backend: "local",
      mode: "development",
      attestation: "development",
      reason: null,
      services: [{ name: "hello", state: "running", health: "healthy", restarts: 0 }],
    });
    expect(status.runner.pid).toBeGreaterThan(1);
    expect(status.ports[0]?.hostPort).toBeGreaterThan(0);
  });

  test("answers on the published port, and sees no interface but loopback", async () => {
    const body: unknown = JSON.parse(await fetchText(status.ports[0]?.hostPort ?? 0));
    expect(body).toEqual({ hello: "from inside", host: "hello", interfaces: ["lo"] });
  });

  test("ps lists it, logs show what it said", async () => {
    expect(await bed.ps()).toMatchObject([{ name: "hello", state: "running" }]);
    expect(await bed.succeed("logs", "hello")).toContain("listening on 8080");
  });

  test("a second up of the same name is refused and changes nothing", async () => {
    const again = await bed.run("up", HELLO, "-d", "-p", "127.0.0.1:0:8080");
    expect(again.status).toBe(6);
    expect(again.stderr).toContain("E_HOST_NAME_IN_USE");
    expect((await bed.status("hello")).runner.pid).toBe(status.runner.pid);
  });

  test("stop keeps the record, up starts it again, down removes it", async () => {
    await bed.succeed("stop", "hello");
    expect(await bed.ps()).toMatchObject([{ name: "hello", state: "stopped", runner: { pid: null } }]);
    await bed.succeed("up", HELLO, "-d", "-p", "127.0.0.1:0:8080");
    expect(await bed.status("hello")).toMatchObject({ state: "running" });
    await bed.succeed("down", "hello");
    expect(await bed.ps()).toEqual([]);
  });
});

describe("refusals of up leave nothing behind", () => {
  test("a port in use", async () => {
    await using bed = await openTestbed();
    await using holder = createServer();
    await new Promise<void>((resolve) => holder.listen(0, "127.0.0.1", resolve));
    const address = holder.address();
    const port = typeof address === "object" ? (address?.port ?? 0) : 0;
    const up = await bed.run("up", HELLO, "-d", "-p", `127.0.0.1:${port}:8080`);
    expect(up.status).toBe(6);
    expect(up.stderr).toContain("E_HOST_PORT_IN_USE");
    expect(up.stderr).toContain(String(port));
    expect((await bed.ps()).filter((record) => record.state === "running")).toEqual([]);
  });

  test("an image larger than the memory of the enclave, with the number to set", async () => {
    await using bed = await openTestbed();
    const directory = await mkdtemp(join(tmpdir(), "small-"));
    try {
      const yaml = `name: small
mode: development
image: { base: { debian: [] } }
resources: { memory: 64MiB }
services: { a: { command: [sleep, "1000"] } }
`;
      await writeFile(join(directory, "enclave.yaml"), yaml);
      const up = await bed.run("up", join(directory, "enclave.yaml"), "-d", "--json");
      expect(up.status).toBe(8);
      expect(up.stdout + up.stderr).toMatch(/E_HOST_IMAGE_TOO_LARGE[\s\S]*\d+ ?MiB/);
    } finally {
      await rm(directory, { recursive: true });
    }
  });
});
