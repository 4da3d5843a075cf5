/** HAProxy and socat from Debian's packages as forwarders of TCP: one process, or two joined by a Unix socket. */
import { type ChildProcess, spawn } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { homedir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

import { openBlobStore } from "../rbuilds/blob-store.ts";
import { openDebianTool } from "../rbuilds/debian-tool.ts";
import { freePort } from "./pipeline-process.ts";

const CACHE = join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "enclave-toolkit");

export interface Peer {
  readonly name: string;
  readonly port: number;
}

/** Starts all; they end with the stack. @param directory for configurations and sockets */
export async function startPeers(
  stack: AsyncDisposableStack,
  directory: string,
  serverPort: number,
): Promise<readonly Peer[]> {
  const haproxy = await openTool("haproxy", "/usr/sbin/haproxy");
  const socat = await openTool("socat", "/usr/bin/socat");
  const peers: Peer[] = [];
  const add = async (name: string, start: (port: number) => Promise<void>): Promise<void> => {
    const port = await freePort();
    await start(port);
    await untilOpen(port);
    peers.push({ name, port });
  };
  const run = (words: readonly string[]): void => {
    const [program = "", ...rest] = words;
    const child: ChildProcess = spawn(program, rest, { stdio: "ignore" });
    stack.defer(() => void child.kill("SIGTERM"));
  };
  const proxy = async (name: string, bind: string, server: string): Promise<void> => {
    const file = join(directory, `${name}.cfg`);
    const limits =
      "global\n  maxconn 4096\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s";
    await writeFile(
      file,
      `${limits}\nfrontend f\n  bind ${bind}\n  default_backend b\nbackend b\n  server s ${server}\n`,
    );
    run([...haproxy, "-db", "-f", file]);
  };
  await add("HAProxy", async (port) => await proxy("h1", `127.0.0.1:${port}`, `127.0.0.1:${serverPort}`));
  await add("HAProxy twice", async (port) => {
    const socket = join(directory, "h.sock");
    await proxy("h2b", `unix@${socket}`, `127.0.0.1:${serverPort}`);
    await proxy("h2a", `127.0.0.1:${port}`, `unix@${socket}`);
  });
  await add("socat", async (port) => {
    run([
      ...socat,
      `TCP-LISTEN:${port},bind=127.0.0.1,fork,reuseaddr,backlog=511`,
      `TCP:127.0.0.1:${serverPort}`,
    ]);
    await Promise.resolve();
  });
  await add("socat twice", async (port) => {
    const socket = join(directory, "s.sock");
    run([...socat, `UNIX-LISTEN:${socket},fork,backlog=511`, `TCP:127.0.0.1:${serverPort}`]);
    run([...socat, `TCP-LISTEN:${port},bind=127.0.0.1,fork,reuseaddr,backlog=511`, `UNIX-CONNECT:${socket}`]);
    await Promise.resolve();
  });
  return peers;
}

async function openTool(name: string, program: string): Promise<readonly string[]> {
  const options = {
    architecture: process.arch === "arm64" ? ("arm64" as const) : ("amd64" as const),
    cacheDir: CACHE,
    blobs: await openBlobStore(join(CACHE, "blobs")),
    signal: AbortSignal.timeout(600_000),
    sources: [],
    system: { proxies: {} },
  };
  return (await openDebianTool({ packages: [name], program }, options)).command;
}

async function untilOpen(port: number): Promise<void> {
  const end = performance.now() + 10_000;
  for (;;) {
    const isOpen = await new Promise((resolve) => {
      const socket = connect(port, "127.0.0.1", () => resolve(true)).once("error", () => resolve(false));
      socket.once("connect", () => socket.destroy());
    });
    if (isOpen) return;
    if (performance.now() > end) throw new Error(`nothing listens on port ${port}`);
    await delay(20);
  }
}
