import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";

import { examineQemu, type QemuExamination } from "../../../host/controller/doctor/qemu.ts";

let root: string;
let machine: QemuExamination;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "doctor-qemu-"));
  await mkdir(join(root, "dev"));
  await mkdir(join(root, "bin"));
  machine = { root, architecture: "amd64", searchPath: join(root, "bin"), userName: "ada", hasApt: true };
});
afterEach(async () => await rm(root, { recursive: true }));

/** A program that answers what is asked of QEMU before it is used. */
async function install(version: string, devices: string): Promise<void> {
  const script = `#!/bin/sh
case "$1" in
  --version) echo "QEMU emulator version ${version}" ;;
  -M) echo "microvm  microvm (i386)" ;;
  -device) echo "${devices}" ;;
esac
`;
  await writeFile(join(root, "bin", "qemu-system-x86_64"), script, { mode: 0o755 });
}

const DEVICE = 'name \\"vhost-user-vsock-device\\", bus virtio-bus';

test("an installed QEMU that will do is told with its version", async () => {
  await install("8.2.0", DEVICE);
  const [qemu] = await examineQemu(machine);
  expect(qemu).toEqual({ check: "qemu", result: "ok", detail: "QEMU emulator version 8.2.0", fix: "" });
});

test.each([
  ["too old", "6.2.0", DEVICE],
  ["without our device", "8.2.0", "name pc"],
])(
  "one that is %s counts as none, and Debian's is fetched where there is apt",
  async (_why, version, devices) => {
    await install(version, devices);
    const [qemu] = await examineQemu(machine);
    expect(qemu).toMatchObject({ result: "ok", detail: expect.stringContaining("fetches Debian's") });
    const [without] = await examineQemu({ ...machine, hasApt: false });
    expect(without).toMatchObject({ result: "warn", fix: expect.stringContaining("qemu-system-x86") });
  },
);

test("a machine without KVM is told what that means, and has nothing to mend", async () => {
  const [, kvm] = await examineQemu(machine);
  expect(kvm).toMatchObject({ check: "kvm", result: "ok", detail: expect.stringContaining("TCG") });
});

test("a KVM that opens still has to show that guests run", async () => {
  await writeFile(join(root, "dev", "kvm"), "");
  const [, kvm] = await examineQemu(machine);
  expect(kvm).toMatchObject({ result: "ok", detail: expect.stringContaining("tried at the first boot") });
});

test.skipIf(process.getuid?.() === 0)(
  "a KVM that may not be opened comes with the command (root may open all)",
  async () => {
    await writeFile(join(root, "dev", "kvm"), "");
    await chmod(join(root, "dev", "kvm"), 0);
    const [, kvm] = await examineQemu(machine);
    expect(kvm).toMatchObject({ result: "warn", fix: "sudo usermod -aG kvm ada, then log in again" });
  },
);
