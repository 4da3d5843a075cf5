/** The machine of the vsock bench: our image with iperf3 in it, our kernel with a network card, QEMU's user network. */
import { appendFile, cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";

import { QemuMachine } from "../host/backends/qemu/qemu-machine.ts";
import { chooseAccelerator } from "../host/backends/qemu/accelerator-probe.ts";
import { findQemu } from "../host/backends/qemu/qemu-program.ts";
import { splitEif } from "../host/backends/qemu/split-eif.ts";
import { loadEnclaveSpec } from "../host/config/load-spec.ts";
import { buildImageFile, openWorkingLock } from "../host/controller/enclave-image.ts";
import type { Toolkit } from "../host/controller/toolkit.ts";
import { answerHeartbeat } from "../host/runner/host-ports.ts";
import { openBlobStore } from "../rbuilds/blob-store.ts";
import { VSOCK_PORT } from "../wire/ports.ts";
import { appendFiles, overlayProgram } from "./guest-overlay.ts";
import { ROOT } from "./pipeline-process.ts";

const CACHE = join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "enclave-toolkit");
const NETWORK = ["-netdev", "user,id=net", "-device", "virtio-net-device,netdev=net"];
const YAML = `name: bench
mode: development
image: { base: { debian: [iperf3, iproute2] } }
services: { none: { command: ["true"] } }
`;

export interface BenchMachine extends AsyncDisposable {
  readonly machine: QemuMachine;
  readonly accelerator: string;
}

export async function bootBenchMachine(): Promise<BenchMachine> {
  await using owned = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), "vsock-bench-"));
  owned.defer(async () => await rm(directory, { recursive: true, force: true }));
  const toolkit = await prepareToolkit(directory);
  await writeFile(join(directory, "enclave.yaml"), YAML);
  const signal = new AbortController().signal;
  const onProgress = (step: string): void => void process.stderr.write(`  ${step}\n`);
  const options = { spec: await loadEnclaveSpec(join(directory, "enclave.yaml")), signal, onProgress };
  const lock = await openWorkingLock(toolkit, options);
  const output = join(directory, "bench.eif");
  await buildImageFile(toolkit, { ...options, lock, output, jobs: 2 });
  const { kernel, ramdisk, description } = await splitEif(output, directory);
  await appendFiles(ramdisk, await overlayProgram(join(ROOT, "bench", "vsock-agent.ts")));
  const blobs = await openBlobStore(join(CACHE, "blobs"));
  const qemu = await findQemu({ architecture: "amd64", cacheDir: CACHE, blobs, searchPath: "" });
  const accelerator = await chooseAccelerator({ qemu, kernel, cacheDir: CACHE });
  const machine = owned.use(
    await QemuMachine.open({
      plan: {
        qemu: { ...qemu, command: [...qemu.command, ...NETWORK] },
        accelerator,
        cpus: 2,
        memoryMib: 1024,
        kernel,
        ramdisk,
        commandLine: description.commandLine,
        launcher: join(ROOT, "native", "build", "launcher"),
        addon: join(ROOT, "native", "build", "vsock.node"),
      },
      vsockDirectory: join(directory, "vsock"),
      powerOff: undefined,
      signal,
    }),
  );
  const ready = Promise.withResolvers<void>();
  let text = "";
  machine.console.on("data", (chunk: Buffer) => {
    text = (text + chunk.toString("latin1")).slice(-20_000);
    if (text.includes("agent: ready")) ready.resolve();
  });
  await machine.onConnect(VSOCK_PORT.heartbeat, answerHeartbeat);
  await machine.start();
  const ended = machine.exited.then(() => Promise.reject(new Error(`the machine ended\n${text}`)));
  await Promise.race([ready.promise, ended]);
  const kept = owned.move();
  return { machine, accelerator, [Symbol.asyncDispose]: async () => await kept.disposeAsync() };
}

/** The toolkit with another kernel configuration: ours has no network cards. Compiled once for a cache. */
async function prepareToolkit(directory: string): Promise<Toolkit> {
  const sourceDir = join(directory, "native");
  await cp(join(ROOT, "native"), sourceDir, { recursive: true });
  await appendFile(join(sourceDir, "kernel", "x86_64.config"), "CONFIG_NET_CORE=y\nCONFIG_VIRTIO_NET=y\n");
  const stateDir = join(directory, "state");
  await mkdir(stateDir);
  await readFile(join(ROOT, "dist", "supervisor.mjs"));
  return {
    stateDir,
    cacheDir: CACHE,
    architecture: "amd64",
    caller: { uid: process.getuid?.() ?? 0, userName: "root", searchPath: "/usr/bin:/bin" },
    node: process.execPath,
    nativeDir: join(ROOT, "native", "build"),
    sourceDir,
    distDir: join(ROOT, "dist"),
    proxies: {},
  };
}
