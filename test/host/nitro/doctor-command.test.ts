import { access, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";

import { openTestbed } from "../../e2e/testbed.ts";
import { openNitroBed } from "./nitro-bed.ts";

const hasHardware = await access("/dev/nitro_enclaves").then(
  () => true,
  () => false,
);

test.skipIf(hasHardware)(
  "pipeline doctor says in one line that there is no such hardware, and stays green",
  async () => {
    await using bed = await openTestbed();
    const doctor = await bed.run("doctor");
    expect(doctor.stdout.split("\n").filter((line) => /nitro/i.test(line))).toEqual([
      "ok    nitro: not an EC2 instance with Nitro Enclaves; local and qemu work",
    ]);
    expect(doctor.status).toBe(0);
  },
);

test("pipeline doctor takes an enclave.yaml and an image, and refuses what is neither", async () => {
  await using bed = await openTestbed();
  await using nitro = await openNitroBed();
  const yaml = join(nitro.folder, "enclave.yaml");
  await writeFile(
    yaml,
    "name: x\nmode: development\nimage: { base: host }\nservices: { a: { command: [x] } }\n",
  );
  const doctor = await bed.run("doctor", yaml, nitro.eifPath, "--json");
  expect(JSON.parse(doctor.stdout)).toContainEqual(expect.objectContaining({ check: "disk space" }));
  const refused = await bed.run("doctor", join(nitro.folder, "none"));
  expect(refused.status).toBe(5);
  expect(refused.stderr).toContain("E_EIF_FILE");
});
