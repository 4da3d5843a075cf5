/**
 * Whether enclaves on the hardware can be started from this machine. Most machines have no such hardware: that is one
 * line, and nothing to mend.
 */
import { access, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

import { findProgram } from "../../backends/nitro/find-nitro-cli.ts";
import { type Finding, ok, warn } from "./finding.ts";
import { checkAllocator } from "./nitro-allocator.ts";
import { checkCpuPool } from "./nitro-cpus.ts";
import { checkDevices, type DeviceUser } from "./nitro-devices.ts";
import { checkEnclaves, checkNitroCli, checkVsockPorts } from "./nitro-enclaves.ts";
import type { WantedEnclave } from "./wanted-enclave.ts";
import { checkHugePages, checkImageMemory } from "./nitro-memory.ts";

export interface NitroExamination {
  /** "/", or a tree like it. */
  readonly root: string;
  readonly searchPath: string;
  readonly user: DeviceUser;
  readonly wanted: WantedEnclave;
}

/** Of the PCI function that makes an instance a parent of enclaves. */
const PCI_VENDOR = "0x1d0f";
const PCI_DEVICE = "0xe4c1";

export async function examineNitro(examination: NitroExamination): Promise<Finding[]> {
  const { root } = examination;
  const isParent = (await isThere(join(root, "dev/nitro_enclaves"))) || (await hasPciFunction(root));
  if (!isParent) return [await describeAbsence(examination)];
  const findings = await Promise.all([
    checkDevices(examination),
    checkNitroCli(examination),
    checkAllocator(examination),
    checkHugePages(examination),
    checkCpuPool(examination),
    checkImageMemory(examination),
    checkEnclaves(examination),
    checkVsockPorts(examination),
  ]);
  return findings.flat();
}

async function describeAbsence({ root, searchPath }: NitroExamination): Promise<Finding> {
  const isSetUp =
    (await isThere(join(root, "etc/nitro_enclaves/allocator.yaml"))) ||
    (await findProgram("nitro-cli", searchPath)) !== undefined;
  if (!isSetUp || !(await isEc2(root)))
    return ok("nitro", "not an EC2 instance with Nitro Enclaves; local and qemu work");
  return warn("nitro", {
    detail: "nitro-cli is set up, and this instance was launched without enclaves; local and qemu work",
    fix: "launch another: aws ec2 run-instances --enclave-options Enabled=true ...",
  });
}

async function isEc2(root: string): Promise<boolean> {
  const vendor = await readFile(join(root, "sys/class/dmi/id/sys_vendor"), "utf8").catch(() => "");
  return vendor.trim() === "Amazon EC2";
}

async function hasPciFunction(root: string): Promise<boolean> {
  const folder = join(root, "sys/bus/pci/devices");
  for (const name of await readdir(folder).catch(() => [])) {
    const read = async (file: string): Promise<string> =>
      (await readFile(join(folder, name, file), "utf8").catch(() => "")).trim();
    if ((await read("vendor")) === PCI_VENDOR && (await read("device")) === PCI_DEVICE) return true;
  }
  return false;
}

async function isThere(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}
