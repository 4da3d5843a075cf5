/**
 * Whether guests really run under KVM here. That /dev/kvm opens says little: in a virtual machine it may be there, and a
 * guest makes no progress. So a kernel is started once, and if it says nothing in time the answer is no. The answer is
 * kept for as long as machine and QEMU are the same.
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { access, constants, mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";

import { writeFileAtomic } from "../../../core/atomic-file.ts";
import { withDeadline } from "../../../core/deadline.ts";
import { isErrno } from "../../../core/errors.ts";
import { qemuArguments } from "./qemu-arguments.ts";
import type { QemuProgram } from "./qemu-program.ts";

export type Accelerator = "kvm" | "tcg";

export interface ProbeOptions {
  readonly qemu: QemuProgram;
  /** Of the image that is to run; it need not get far. */
  readonly kernel: string;
  readonly cacheDir: string;
  readonly signal?: AbortSignal | undefined;
  /** The device; another one in tests. */
  readonly device?: string;
}

/** A kernel under KVM prints its first line within 100 ms. */
const PROGRESS_TIMEOUT_MS = 5_000;
const PROBE_MEMORY_MIB = 128;
const BOOT_ID = "/proc/sys/kernel/random/boot_id";

export async function chooseAccelerator(options: ProbeOptions): Promise<Accelerator> {
  if (!(await mayOpen(options.device ?? "/dev/kvm"))) return "tcg";
  const path = join(options.cacheDir, "qemu", `accelerator-${await machineKey(options)}`);
  const known = await readAnswer(path);
  if (known !== undefined) return known;
  const answer = (await makesProgress(options)) ? "kvm" : "tcg";
  await mkdir(join(options.cacheDir, "qemu"), { recursive: true });
  await writeFileAtomic(path, answer);
  return answer;
}

async function mayOpen(device: string): Promise<boolean> {
  return await access(device, constants.R_OK | constants.W_OK).then(
    () => true,
    () => false,
  );
}

async function machineKey({ qemu }: ProbeOptions): Promise<string> {
  const boot = await readFile(BOOT_ID, "utf8");
  return createHash("sha256").update(`${boot}\n${qemu.version}`).digest("hex").slice(0, 32);
}

async function readAnswer(path: string): Promise<Accelerator | undefined> {
  try {
    const text = await readFile(path, "utf8");
    return text === "kvm" || text === "tcg" ? text : undefined;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}

/** True once the guest's kernel has said anything. It has no root file system, and is killed before it misses one. */
async function makesProgress({ qemu, kernel, signal }: ProbeOptions): Promise<boolean> {
  const [program, ...words] = qemu.command;
  const vm = {
    accelerator: "kvm" as const,
    cpus: 1,
    memoryMib: PROBE_MEMORY_MIB,
    kernel,
    ramdisk: undefined,
    commandLine: "console=ttyS0",
    vsock: undefined,
    dataFolders: qemu.dataFolders,
  };
  const child = spawn(program, [...words, ...qemuArguments(vm)], {
    env: qemu.environment,
    stdio: ["ignore", "pipe", "ignore"],
    signal: withDeadline(signal, PROGRESS_TIMEOUT_MS),
    killSignal: "SIGKILL",
  });
  const { promise, resolve } = Promise.withResolvers<boolean>();
  child.once("error", () => resolve(false));
  child.once("close", () => resolve(false));
  child.stdout.on("data", () => resolve(true));
  try {
    return await promise;
  } finally {
    child.kill("SIGKILL");
    signal?.throwIfAborted();
  }
}
