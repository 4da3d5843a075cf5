/**
 * Named pipes for the output of services. What Node spawns with are sockets, and those cannot be opened by name, which
 * programs that log to /dev/stdout do. Each service owns two FIFOs; the supervisor opens both ends before a spawn, so
 * no opening ever waits. Processes of a service that outlived an earlier start keep writing into the same pipe.
 */
import { execFile } from "node:child_process";
import { closeSync, constants, openSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { Socket } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";

import type { Log } from "../core/log.ts";
import type { ServiceConfig } from "../wire/enclave-config.ts";
import type { LogStream } from "./log-store.ts";

const MAKE_TIMEOUT_MS = 5_000;
const STREAMS = ["stdout", "stderr"] as const;

/** Both pipes of one start of a service: the service writes, the supervisor reads. */
export interface OutputPipes {
  /** Descriptors for the service: stdout and stderr. */
  readonly writers: readonly [number, number];
  readonly readers: readonly [Socket, Socket];
  /** To be called once the service has the writers, or will never have them. */
  closeWriters(): void;
  /** The start failed: nobody will read. */
  abandon(): void;
}

export interface OutputPipesOptions {
  /** Made here; nobody but the supervisor may look into it. */
  readonly directory: string;
  readonly services: readonly ServiceConfig[];
  readonly serviceExec: string;
  /** False where only one uid exists, which then owns everything. */
  readonly setIdentity: boolean;
  readonly log: Log;
}

/**
 * Makes the pipes of all services.
 * @returns the directory, or undefined where they cannot be made: then services write into sockets.
 */
export async function makeOutputPipes(options: OutputPipesOptions): Promise<string | undefined> {
  const { directory, services, serviceExec, setIdentity, log } = options;
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    for (const { name, user } of services) {
      const owner = setIdentity ? [user.uid, user.gid] : [0, 0];
      const paths = STREAMS.map((stream) => pipePath(directory, name, stream));
      const words = ["--mkfifo", ...owner.map(String), ...paths];
      await promisify(execFile)(serviceExec, words, { timeout: MAKE_TIMEOUT_MS });
    }
    return directory;
  } catch (error) {
    log.warn("no pipes for output; services cannot open /dev/stdout", { reason: String(error) });
    return undefined;
  }
}

/** Opens both ends of the pipes that were made; no opening waits, since the reader comes first. @throws errno */
export function openOutputPipes(directory: string, service: string): OutputPipes {
  const stdout = openPipe(pipePath(directory, service, "stdout"));
  try {
    const stderr = openPipe(pipePath(directory, service, "stderr"));
    const readers = [stdout.reader, stderr.reader] as const;
    const writers = [stdout.writer, stderr.writer] as const;
    return {
      readers,
      writers,
      closeWriters: () => writers.forEach((writer) => closeSync(writer)),
      abandon: () => readers.forEach((reader) => reader.destroy()),
    };
  } catch (error) {
    stdout.reader.destroy();
    closeSync(stdout.writer);
    throw error;
  }
}

function openPipe(path: string): { readonly writer: number; readonly reader: Socket } {
  const readFd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const writer = openSync(path, constants.O_WRONLY);
    return { writer, reader: new Socket({ fd: readFd, readable: true, writable: false }) };
  } catch (error) {
    closeSync(readFd);
    throw error;
  }
}

function pipePath(directory: string, service: string, stream: LogStream): string {
  return join(directory, `${service}.${stream}`);
}
