import { chmod, chown, mkdir, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

import type { Finding } from "../../../host/controller/doctor/finding.ts";
import { examineNitro } from "../../../host/controller/doctor/nitro.ts";
import { readWanted, type WantedEnclave } from "../../../host/controller/doctor/wanted-enclave.ts";
import { type NitroBed, openNitroBed } from "./nitro-bed.ts";

const MIB = 2 ** 20;
const NE_GROUP = 990;

let bed: NitroBed;
let root: string;
/** A parent instance of which nothing is wrong: 8 CPUs on 2 nodes, siblings N and N+4. */
beforeEach(async () => {
  bed = await openNitroBed();
  root = join(bed.folder, "root");
  await place("etc/group", `root:x:0:\nne:x:${NE_GROUP}:alice,bob\n`);
  await place("dev/nitro_enclaves", "");
  await place("dev/vsock", "");
  await chmod(join(root, "dev/vsock"), 0o666);
  await place("etc/nitro_enclaves/allocator.yaml", "---\n# reserved\nmemory_mib: 1024\ncpu_count: 2\n");
  await place("sys/module/nitro_enclaves/parameters/ne_cpus", "1,5\n");
  for (let cpu = 0; cpu < 8; cpu++) await place(siblingsOf(cpu), `${cpu % 4},${(cpu % 4) + 4}\n`);
  await place("sys/devices/system/node/node0/cpulist", "0-1,4-5\n");
  await place("sys/devices/system/node/node1/cpulist", "2-3,6-7\n");
  await placePages(0, 512, 512);
  await placePages(1, 0, 0);
  await placeSs("");
});
afterEach(async () => await bed[Symbol.asyncDispose]());

const siblingsOf = (cpu: number): string => `sys/devices/system/cpu/cpu${cpu}/topology/thread_siblings_list`;

async function place(path: string, text: string): Promise<void> {
  await mkdir(dirname(join(root, path)), { recursive: true });
  await writeFile(join(root, path), text);
}

async function placePages(node: number, total: number, free: number, kb = 2048): Promise<void> {
  const folder = `sys/devices/system/node/node${node}/hugepages/hugepages-${kb}kB`;
  await place(`${folder}/nr_hugepages`, `${total}\n`);
  await place(`${folder}/free_hugepages`, `${free}\n`);
}

/** A stand-in for iproute2's ss. */
async function placeSs(output: string, status = 0): Promise<void> {
  await writeFile(join(bed.folder, "listeners"), output);
  const script = `#!/bin/sh\nwhile read -r line; do echo "$line"; done < '${bed.folder}/listeners'\nexit ${status}\n`;
  await writeFile(join(bed.binFolder, "ss"), script, { mode: 0o755 });
}

const ALICE = { name: "alice", uid: 1000, groups: [1000, NE_GROUP] };
const ROOT_USER = { name: "root", uid: 0, groups: [0] };

async function examine(wanted: WantedEnclave = {}, user = ROOT_USER): Promise<Finding[]> {
  return await examineNitro({ root, searchPath: bed.binFolder, user, wanted });
}

async function finding(check: string, wanted: WantedEnclave = {}, user = ROOT_USER): Promise<Finding> {
  const found = (await examine(wanted, user)).filter((one) => one.check === check);
  expect(found).toHaveLength(1);
  const [only] = found;
  if (only === undefined) throw new Error(`no finding ${check}`);
  expect(only.fix === "").toBe(only.result === "ok");
  return only;
}

test("nothing is wrong with a parent instance that is set up", async () => {
  const findings = await examine({ imageBytes: 20 * MIB, memoryBytes: 512 * MIB, cpus: 2 });
  expect(findings.map(({ check, result }) => `${check}: ${result}`)).toEqual([
    "nitro device: ok",
    "vsock device: ok",
    "nitro-cli: ok",
    "allocator: ok",
    "huge pages: ok",
    "cpu pool: ok",
    "enclave memory: ok",
    "running enclaves: ok",
    "vsock ports: ok",
  ]);
});

describe("without the hardware", () => {
  beforeEach(async () => await rm(join(root, "dev/nitro_enclaves")));

  test("one line says so, and nothing is to be mended", async () => {
    const neutral = "not an EC2 instance with Nitro Enclaves; local and qemu work";
    expect(await examine()).toEqual([{ check: "nitro", result: "ok", detail: neutral, fix: "" }]);
    expect(await examineNitro({ root: join(root, "none"), searchPath: "", user: ALICE, wanted: {} })).toEqual(
      [{ check: "nitro", result: "ok", detail: neutral, fix: "" }],
    );
  });

  test("an EC2 instance with nitro-cli that was launched without enclaves is told so", async () => {
    await place("sys/class/dmi/id/sys_vendor", "Amazon EC2\n");
    expect((await finding("nitro")).result).toBe("warn");
    expect((await finding("nitro")).fix).toContain("--enclave-options Enabled=true");
    await rm(join(root, "etc/nitro_enclaves"), { recursive: true });
    await rm(join(bed.binFolder, "nitro-cli"));
    expect((await finding("nitro")).result).toBe("ok");
  });

  test("the PCI function without its driver is a parent instance with something to mend", async () => {
    await place("sys/bus/pci/devices/0000:00:02.0/vendor", "0x1d0f\n");
    await place("sys/bus/pci/devices/0000:00:02.0/device", "0xe4c1\n");
    const found = await finding("nitro device");
    expect(found).toMatchObject({ result: "fail", detail: "/dev/nitro_enclaves is not there" });
    expect(found.fix).toBe("sudo modprobe nitro_enclaves");
  });
});

describe("devices", () => {
  test("a missing vsock device is told with its module", async () => {
    await rm(join(root, "dev/vsock"));
    expect(await finding("vsock device")).toMatchObject({ result: "fail", fix: "sudo modprobe vhost_vsock" });
  });

  test.skipIf(process.getuid?.() !== 0)("who may not open a device is told why (needs root)", async () => {
    await chown(join(root, "dev/nitro_enclaves"), 0, NE_GROUP);
    await chmod(join(root, "dev/nitro_enclaves"), 0o660);
    expect((await finding("nitro device", {}, ALICE)).result).toBe("ok");
    const carol = { name: "carol", uid: 1001, groups: [1001] };
    expect(await finding("nitro device", {}, carol)).toMatchObject({
      result: "fail",
      detail: "carol may not open /dev/nitro_enclaves: not in group ne",
      fix: "sudo usermod -aG ne carol, and log in again",
    });
    const bob = { name: "bob", uid: 1002, groups: [1002] };
    expect((await finding("nitro device", {}, bob)).fix).toBe("newgrp ne, or log in again");
    await chmod(join(root, "dev/nitro_enclaves"), 0o600);
    expect((await finding("nitro device", {}, ALICE)).fix).toContain("sudo chmod 660 /dev/nitro_enclaves");
    await place("etc/group", "root:x:0:\n");
    expect((await finding("nitro device", {}, carol)).detail).toContain("there is no group ne");
  });
});

describe("nitro-cli", () => {
  test("is told with its version", async () => {
    expect((await finding("nitro-cli")).detail).toBe(`Nitro CLI 1.4.2 (${bed.binFolder}/nitro-cli)`);
  });

  test("missing is told with how to install it", async () => {
    await rm(join(bed.binFolder, "nitro-cli"));
    expect(await finding("nitro-cli")).toMatchObject({ result: "fail", detail: "nitro-cli is not in PATH" });
    expect((await finding("nitro-cli")).fix).toContain("dnf install aws-nitro-enclaves-cli");
  });
});

describe("allocator", () => {
  test.each([
    ["without ---", "memory_mib: 512\ncpu_count: 2\n", /does not begin with ---/],
    [
      "with both kinds of CPUs",
      '---\nmemory_mib: 512\ncpu_count: 2\ncpu_pool: "1,5"\n',
      /cpu_count or cpu_pool/,
    ],
    ["with neither", "---\nmemory_mib: 512\n", /cpu_count or cpu_pool/],
    ["with memory that is no number", "---\nmemory_mib: 512M\ncpu_count: 2\n", /memory_mib is no number/],
    ["with a list that is none", "---\nmemory_mib: 512\ncpu_pool: 1-\n", /no number and no list/],
    ["with another line", "---\nmemory_mib: 512\n  - what\n", /no line of the form/],
  ])("a file %s is told", async (_, text, detail) => {
    await place("etc/nitro_enclaves/allocator.yaml", text);
    const found = await finding("allocator");
    expect(found.result).toBe("fail");
    expect(found.detail).toMatch(detail);
    expect(found.fix).toContain("systemctl restart nitro-enclaves-allocator.service");
  });

  test("a missing file is told", async () => {
    await rm(join(root, "etc/nitro_enclaves/allocator.yaml"));
    expect((await finding("allocator")).detail).toBe("/etc/nitro_enclaves/allocator.yaml cannot be read");
  });

  test("less memory or CPUs than wanted are told with the command that sets them", async () => {
    const memory = await finding("allocator", { imageBytes: 300 * MIB });
    expect(memory.detail).toBe("it reserves 1024 MiB; the enclave needs 1200 MiB");
    expect(memory.fix).toMatch(
      /^sudo sed -i 's\/\^memory_mib:\.\*\/memory_mib: 1200\/' \/etc.* && sudo systemctl/,
    );
    expect((await finding("allocator", { cpus: 4 })).fix).toContain("cpu_count: 4");
  });

  test("a pool counts its CPUs", async () => {
    await place("etc/nitro_enclaves/allocator.yaml", '---\nmemory_mib: 512\ncpu_pool: "1-3,5"\n');
    expect((await finding("allocator")).detail).toBe("512 MiB and 4 CPUs");
  });
});

describe("huge pages", () => {
  test("are counted by NUMA node, over all sizes", async () => {
    await placePages(0, 2, 1, 1024 * 1024);
    expect((await finding("huge pages")).detail).toBe(
      "node 0: 2048 of 3072 MiB free; node 1: 0 of 0 MiB free",
    );
  });

  test("none at all are told with the service that reserves them", async () => {
    await placePages(0, 0, 0);
    expect(await finding("huge pages")).toMatchObject({ result: "fail", detail: "none are reserved" });
  });

  test("too few on every node are told with the command", async () => {
    await placePages(1, 512, 512);
    const found = await finding("huge pages", { memoryBytes: 1500 * MIB });
    expect(found.detail).toContain("1500 MiB are needed on one node");
    expect(found.fix).toContain("memory_mib: 1500");
  });

  test("pages that another enclave holds are told as such", async () => {
    await placePages(0, 512, 0);
    expect((await finding("huge pages", { memoryBytes: 512 * MIB })).fix).toContain(
      "nitro-cli terminate-enclave",
    );
    expect((await finding("huge pages")).detail).toContain("no enclave fits");
  });

  test("of another node than the wanted one do not count", async () => {
    expect((await finding("huge pages", { memoryBytes: 512 * MIB, numaNode: 1 })).result).toBe("fail");
    expect((await finding("huge pages", { memoryBytes: 512 * MIB, numaNode: 0 })).result).toBe("ok");
  });
});

describe("cpu pool", () => {
  test.each([
    ["0,4", /CPU 0 is in it/],
    ["4", /CPU 4 is of CPU 0's core/],
    ["1", /CPU 1 without CPU 5/],
    ["1-2,5-6", /NUMA nodes 0 and 1/],
    ["", /empty/],
    ["what", /not loaded/],
  ])("%j is told as wrong", async (list, detail) => {
    await place("sys/module/nitro_enclaves/parameters/ne_cpus", `${list}\n`);
    const found = await finding("cpu pool");
    expect(found.result).toBe("fail");
    expect(found.detail).toMatch(detail);
    expect(found.fix).toContain("systemctl restart nitro-enclaves-allocator.service");
  });

  test("a driver that is not loaded is told", async () => {
    await rm(join(root, "sys/module"), { recursive: true });
    expect((await finding("cpu pool")).fix).toContain("sudo modprobe nitro_enclaves");
  });

  test("CPUs that the enclave wants and the pool lacks are told", async () => {
    expect((await finding("cpu pool", { cpus: 3 })).detail).toBe("it has 2 CPUs; the enclave needs 3");
    expect((await finding("cpu pool", { cpuIds: [1, 3] })).detail).toContain("CPU 3 of resources.cpu_ids");
    expect((await finding("cpu pool", { cpus: 1, numaNode: 1 })).detail).toContain("0 CPUs of NUMA node 1");
    expect((await finding("cpu pool", { cpus: 2, numaNode: 0 })).result).toBe("ok");
  });
});

describe("enclave memory", () => {
  test("below four times the image is told with the number to set", async () => {
    expect(await finding("enclave memory", { imageBytes: 100 * MIB, memoryBytes: 256 * MIB })).toMatchObject({
      result: "fail",
      detail: "an image of 100 MiB needs 400 MiB; enclave.yaml gives it 256 MiB",
      fix: "set resources: { memory: 400MiB } in enclave.yaml",
    });
    expect((await finding("enclave memory", { imageBytes: MIB })).detail).toContain("needs 64 MiB");
  });

  test("is read from enclave.yaml and image", async () => {
    const path = join(bed.folder, "enclave.yaml");
    await writeFile(
      path,
      "name: web\nmode: development\nimage: { base: host }\nresources: { memory: 256MiB, cpu_ids: [1, 5], numa_node: 0 }\nservices: { web: { command: [a] } }\n",
    );
    const imageBytes = 20 * MIB + 4;
    const both = { cpus: 2, cpuIds: [1, 5], numaNode: 0, memoryBytes: 256 * MIB, imageBytes };
    expect(await readWanted([path, bed.eifPath])).toEqual(both);
    expect(await readWanted([bed.eifPath, path])).toEqual(both);
    expect(await readWanted([])).toEqual({});
    await expect(readWanted([path, path, path])).rejects.toMatchObject({ code: "E_USAGE" });
    await expect(readWanted([join(bed.folder, "none")])).rejects.toMatchObject({ code: "E_EIF_FILE" });
  });
});

describe("running enclaves", () => {
  const enclave = {
    EnclaveName: "signer",
    EnclaveID: "i-1-enc1",
    ProcessID: 1,
    EnclaveCID: 16,
    NumberOfCPUs: 2,
    CPUIDs: [1, 5],
    MemoryMiB: 512,
    State: "RUNNING",
    Flags: "NONE",
  };

  test("are told with what they hold", async () => {
    expect((await finding("running enclaves")).detail).toBe("none");
    await bed.setState({ enclaves: [enclave] });
    expect((await finding("running enclaves")).detail).toBe("signer (CID 16, 512 MiB, CPUs 1, 5)");
  });

  test("with the same CID are told, with the command that ends one", async () => {
    await bed.setState({ enclaves: [enclave, { ...enclave, EnclaveID: "i-1-enc2" }] });
    expect(await finding("running enclaves")).toMatchObject({
      result: "fail",
      detail: "i-1-enc1 and i-1-enc2 have the same CID 16",
      fix: "nitro-cli terminate-enclave --enclave-id i-1-enc2",
    });
  });

  test("in debug mode are told, because describe-enclaves shows PCRs that their documents do not have", async () => {
    await bed.setState({ enclaves: [{ ...enclave, Flags: "DEBUG_MODE" }] });
    const found = await finding("running enclaves");
    expect(found.result).toBe("warn");
    expect(found.detail).toContain("zero PCRs");
  });

  test("that nitro-cli cannot list are told with its code and advice", async () => {
    await bed.misbehave({ "describe-enclaves": { do: "refuse", code: "E56" } });
    const found = await finding("running enclaves");
    expect(found.result).toBe("fail");
    expect(found.detail).toContain("E56");
    expect(found.fix).toContain("usermod -aG ne");
  });
});

describe("vsock ports", () => {
  test("that somebody listens on are told", async () => {
    await placeSs("v_str LISTEN 0 0 *:9000 *:*\nv_str LISTEN 0 0 3:9003 *:*\nv_str LISTEN 0 0 *:7777 *:*\n");
    const found = await finding("vsock ports");
    expect(found.result).toBe("warn");
    expect(found.detail).toContain("in use: 9000, 9003;");
    expect(found.fix).toContain("ss --vsock --listening --processes");
  });

  test("cannot be told without ss, or when it fails", async () => {
    await placeSs("", 1);
    expect((await finding("vsock ports")).fix).toBe("sudo modprobe vsock_diag");
    await rm(join(bed.binFolder, "ss"));
    expect((await finding("vsock ports")).detail).toContain("ss is missing");
  });
});
