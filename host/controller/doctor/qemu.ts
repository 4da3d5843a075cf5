/** Whether and how the qemu backend works on this machine. */
import { access, constants } from "node:fs/promises";
import { join } from "node:path";

import { findInstalledQemu } from "../../backends/qemu/qemu-program.ts";
import { type Finding, ok, warn } from "./finding.ts";

export interface QemuExamination {
  /** "/", or a tree like it. */
  readonly root: string;
  readonly architecture: "amd64" | "arm64";
  readonly searchPath: string;
  readonly userName: string;
  /** Debian packages can be fetched. */
  readonly hasApt: boolean;
}

export async function examineQemu(options: QemuExamination): Promise<Finding[]> {
  return await Promise.all([checkProgram(options), checkKvm(options)]);
}

async function checkProgram({ architecture, searchPath, hasApt }: QemuExamination): Promise<Finding> {
  const check = "qemu";
  const installed = await findInstalledQemu({ architecture, searchPath });
  if (installed !== undefined) return ok(check, installed.version);
  if (hasApt) return ok(check, "none is installed; the first use of --backend qemu fetches Debian's");
  const fix = "install QEMU 7.2 or newer: qemu-system-x86 or qemu-system-arm";
  return warn(check, { detail: "none is installed, and there is no apt to fetch one", fix });
}

async function checkKvm({ root, userName }: QemuExamination): Promise<Finding> {
  const check = "kvm";
  const device = join(root, "dev", "kvm");
  const may = async (mode: number): Promise<boolean> =>
    await access(device, mode).then(
      () => true,
      () => false,
    );
  if (!(await may(constants.F_OK)))
    return ok(check, "no /dev/kvm: QEMU interprets the guest (TCG), which is some ten times slower");
  if (await may(constants.R_OK | constants.W_OK))
    return ok(check, "/dev/kvm opens; whether a guest makes progress under it is tried at the first boot");
  const fix = `sudo usermod -aG kvm ${userName}, then log in again`;
  return warn(check, { detail: "/dev/kvm is there, and you may not open it", fix });
}
