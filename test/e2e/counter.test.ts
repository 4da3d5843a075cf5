import { join } from "node:path";
import { expect, test } from "vitest";

import { fetchText, openTestbed, ROOT, StatusJson } from "./testbed.ts";

const COUNTER = join(ROOT, "examples", "counter", "enclave.yaml");

test("the counter example counts in Redis and starts in the order of its dependencies", async () => {
  await using bed = await openTestbed();
  const up = await bed.succeed("up", COUNTER, "-d", "--json", "-p", "127.0.0.1:0:8080");
  const status = StatusJson.parse(JSON.parse(up));
  expect(status).toMatchObject({ name: "counter", state: "running", backend: "local", mode: "development" });
  expect(status.services.map((service) => [service.name, service.health])).toEqual([
    ["redis", "healthy"],
    ["web", "healthy"],
  ]);
  const port = status.ports[0]?.hostPort ?? 0;
  const first = Number(await fetchText(port));
  expect(await fetchText(port)).toBe(`${first + 1}\n`);
  expect(await bed.ps()).toMatchObject([{ name: "counter", state: "running" }]);
});
