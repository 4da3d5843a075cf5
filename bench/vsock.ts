import { type ChildProcess, spawn } from "node:child_process";
import { homedir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";

import type { QemuMachine } from "../host/backends/qemu/qemu-machine.ts";
import { openBlobStore } from "../rbuilds/blob-store.ts";
import { openDebianTool } from "../rbuilds/debian-tool.ts";
import { freePort, print } from "./pipeline-process.ts";
import { bootBenchMachine } from "./vsock-machine.ts";

const CACHE = join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "enclave-toolkit");
const COMMAND_PORT = 5000;
const SINK_PORT = 5001;
const HOST_SINK = 6001;
const HOST_ECHO = 6002;
const RUN_MS = 3_000;
const SIZES = [1, 64, 4096, 65_536, 1_048_576] as const;
const STREAMS = [1, 64] as const;
const MIB = 2 ** 20;

/** Guest to host and host to guest, beside iperf3 in the same guest over QEMU's user network. */
export async function measureVsock(): Promise<void> {
  await using bench = await bootBenchMachine();
  const { machine } = bench;
  const sink = { bytes: 0 };
  await machine.onConnect(HOST_SINK, (stream) => {
    stream.on("error", () => undefined).on("data", (chunk: Buffer) => (sink.bytes += chunk.length));
    stream.once("end", () => stream.end());
  });
  await machine.onConnect(HOST_ECHO, (stream) => void stream.on("error", () => undefined).pipe(stream));
  await ask(machine, { do: "run", words: ["/usr/sbin/ip", "link", "set", "eth0", "up"] });
  await ask(machine, { do: "run", words: ["/usr/sbin/ip", "addr", "add", "10.0.2.15/24", "dev", "eth0"] });
  const iperf = await openIperf();
  print(`vsock: accelerator ${bench.accelerator}; MiB a second, ours / iperf3 over user networking`);
  for (const streams of STREAMS)
    for (const chunkBytes of SIZES) {
      const ours = await measureUp(machine, sink, { streams, chunkBytes });
      const theirs = await runIperf(machine, iperf, { streams, chunkBytes, reverse: false });
      report("guest to host", { streams, chunkBytes, ours, theirs });
      const down = await measureDown(machine, { streams, chunkBytes });
      const theirsDown = await runIperf(machine, iperf, { streams, chunkBytes, reverse: true });
      report("host to guest", { streams, chunkBytes, ours: down, theirs: theirsDown });
    }
  for (const parallel of [1, 32]) {
    const answer = Object(await ask(machine, { do: "rate", port: HOST_ECHO, ms: RUN_MS, parallel }));
    const rate = (answer.connections / RUN_MS) * 1000;
    print(`vsock: ${rate.toFixed(0)} connections a second with a byte each way, ${parallel} at once`);
  }
}

interface Load {
  readonly streams: number;
  readonly chunkBytes: number;
}

function report(direction: string, result: Load & { readonly ours: number; readonly theirs: number }): void {
  const { streams, chunkBytes, ours, theirs } = result;
  const ratio = (ours / theirs).toFixed(2);
  print(
    `vsock: ${direction}, ${streams} streams, writes of ${chunkBytes}: ${ours.toFixed(1)} / ${theirs.toFixed(1)} = ${ratio}`,
  );
}

async function measureUp(machine: QemuMachine, sink: { bytes: number }, load: Load): Promise<number> {
  const before = sink.bytes;
  const start = performance.now();
  await ask(machine, { do: "blast", port: HOST_SINK, ms: RUN_MS, ...load });
  return (sink.bytes - before) / MIB / ((performance.now() - start) / 1000);
}

async function measureDown(machine: QemuMachine, { streams, chunkBytes }: Load): Promise<number> {
  const start = performance.now();
  const counts = await Promise.all(
    Array.from({ length: streams }, async () => {
      const stream = await machine.connect(SINK_PORT, AbortSignal.timeout(20_000));
      const chunk = Buffer.alloc(chunkBytes, 1);
      while (performance.now() < start + RUN_MS)
        if (!stream.write(chunk)) await new Promise((resolve) => stream.once("drain", resolve));
      stream.end();
      return Number(await textOf(stream));
    }),
  );
  const bytes = counts.reduce((sum, count) => sum + count, 0);
  return bytes / MIB / ((performance.now() - start) / 1000);
}

async function openIperf(): Promise<readonly [string, ...string[]]> {
  const blobs = await openBlobStore(join(CACHE, "blobs"));
  const options = { architecture: "amd64" as const, cacheDir: CACHE, blobs };
  return (await openDebianTool({ packages: ["iperf3"], program: "/usr/bin/iperf3" }, options)).command;
}

interface IperfRun extends Load {
  /** The host sends. */
  readonly reverse: boolean;
}

async function runIperf(
  machine: QemuMachine,
  [program, ...words]: readonly [string, ...string[]],
  { streams, chunkBytes, reverse }: IperfRun,
): Promise<number> {
  const port = await freePort();
  const server = spawn(
    program,
    [...words, "-s", "-1", "--forceflush", "-B", "127.0.0.1", "-p", String(port)],
    {
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  try {
    await listening(server);
    const client = [
      "/usr/bin/iperf3",
      "-c",
      "10.0.2.2",
      "-p",
      String(port),
      "-J",
      "-t",
      String(RUN_MS / 1000),
    ];
    const shape = ["-P", String(streams), "-l", String(chunkBytes), ...(reverse ? ["-R"] : [])];
    const answer = Object(await ask(machine, { do: "run", words: [...client, ...shape] }));
    if (answer.error !== undefined) throw new Error(answer.error);
    return JSON.parse(answer.stdout).end.sum_received.bits_per_second / 8 / MIB;
  } finally {
    server.kill("SIGKILL");
  }
}

async function listening(server: ChildProcess): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.stdout?.on("data", (chunk: Buffer) => {
    if (chunk.includes("listening")) resolve();
  });
  server.once("exit", () => reject(new Error("iperf3 ended")));
  await promise;
}

async function ask(machine: QemuMachine, command: unknown): Promise<unknown> {
  const stream = await machine.connect(COMMAND_PORT, AbortSignal.timeout(20_000));
  stream.write(`${JSON.stringify(command)}\n`);
  return JSON.parse(await textOf(stream));
}

async function textOf(stream: Duplex): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of stream) if (Buffer.isBuffer(part)) parts.push(part);
  return Buffer.concat(parts).toString("utf8");
}
