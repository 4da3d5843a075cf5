import { access, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";

import { newLaunchName } from "../../../host/backends/nitro/nitro-plan.ts";
import { endNitroLeftover } from "../../../host/controller/nitro-leftover.ts";
import { openNitroBed } from "./nitro-bed.ts";

const signal = AbortSignal.timeout(600_000);

test("removing an enclave ends what its killed runner left on the hardware, and nothing else", async () => {
  await using bed = await openNitroBed();
  const launchName = newLaunchName("signer");
  const launch = { eifPath: bed.eifPath, cpus: { count: 1 }, memoryMib: 128, cid: undefined, debug: false };
  await bed.cli.runEnclave({ ...launch, name: launchName, timeoutMs: 60_000 }, signal);
  await bed.cli.runEnclave({ ...launch, name: "other", timeoutMs: 60_000 }, signal);
  const request = join(bed.folder, "request.json");
  const plan = { program: join(bed.binFolder, "nitro-cli"), launchName };
  await writeFile(request, JSON.stringify({ machine: { backend: "nitro", plan } }));
  await endNitroLeftover(request);
  const left = await bed.cli.describeEnclaves(signal);
  expect(left.map((enclave) => enclave.EnclaveName)).toEqual(["other"]);
  await endNitroLeftover(request);
});

test("an enclave of another backend, or one that never had a runner, has nothing to end", async () => {
  await using bed = await openNitroBed();
  const request = join(bed.folder, "request.json");
  await endNitroLeftover(request);
  await writeFile(request, '{"machine":{"backend":"local"}}');
  await endNitroLeftover(request);
  await writeFile(request, '{"machine":');
  await endNitroLeftover(request);
  await access(request);
});
