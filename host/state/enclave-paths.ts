import { join } from "node:path";

/** Where the state of one enclave lies. */
export interface EnclavePaths {
  readonly directory: string;
  /** Atomic JSON, host/state/enclave-record.ts. */
  readonly record: string;
  /** What the runner was told to run. */
  readonly request: string;
  readonly runnerSocket: string;
  /** Output of the runner itself. */
  readonly runnerLog: string;
  readonly vsock: string;
  readonly scratch: string;
  /** Kernel and ramdisk of a virtual machine. */
  readonly boot: string;
  readonly logs: string;
}

export function enclavesFolder(stateDir: string): string {
  return join(stateDir, "enclaves");
}

/** Where the authority of the development NSM keeps its key: one for each user. */
export function authorityFolder(stateDir: string): string {
  return join(stateDir, "development-authority");
}

export function enclavePaths(stateDir: string, name: string): EnclavePaths {
  const directory = join(enclavesFolder(stateDir), name);
  return {
    directory,
    record: join(directory, "record.json"),
    request: join(directory, "request.json"),
    runnerSocket: join(directory, "runner.sock"),
    runnerLog: join(directory, "runner.log"),
    vsock: join(directory, "vsock"),
    scratch: join(directory, "scratch"),
    boot: join(directory, "boot"),
    logs: join(directory, "logs"),
  };
}
