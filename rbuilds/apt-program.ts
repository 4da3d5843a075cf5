/**
 * Runs apt's programs with nothing of the caller's environment but what is named here: output in C locale, private
 * directories, bounded output, a deadline.
 */
import { spawn } from "node:child_process";
import { withDeadline } from "../core/deadline.ts";
import type { ErrorCode } from "../core/error-table.ts";
import { isErrno, KitError, toKitError } from "../core/errors.ts";

/** What apt is on this machine. All fields have the defaults of a Debian system. */
export interface AptSystem {
  /** Folder of sources, keys, preferences and configuration; /etc/apt. */
  readonly etcDirectory?: string;
  /** Where programs are looked for; Debian's default PATH. */
  readonly path?: string;
  /** Proxies as apt reads them from the environment: http_proxy, https_proxy, no_proxy. */
  readonly proxies?: Readonly<Record<string, string>>;
}

export const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/** More output than this ends the program. `apt-cache pkgnames` of all Debian is 1.2 MB. */
const MAX_OUTPUT_BYTES = 32 * 1024 * 1024;

export interface AptRun {
  readonly system: AptSystem;
  /** Values of APT_CONFIG and the working directory. */
  readonly configPath?: string;
  readonly workingDirectory?: string;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  /** Called with each whole line of standard output. */
  readonly onLine?: (line: string) => void;
}

export interface AptResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs one program of apt to its end. A status other than 0 is a result, not an error.
 * @throws E_IMAGE_APT_MISSING, E_IMAGE_APT_OUTPUT (too much), E_CANCELLED, E_DEADLINE.
 */
export async function runApt(program: string, args: readonly string[], run: AptRun): Promise<AptResult> {
  const signal = withDeadline(run.signal, run.timeoutMs);
  signal.throwIfAborted();
  const child = spawn(program, args, {
    env: environment(run),
    stdio: ["ignore", "pipe", "pipe"],
    ...(run.workingDirectory === undefined ? {} : { cwd: run.workingDirectory }),
  });
  const stop = (): void => void child.kill("SIGKILL");
  signal.addEventListener("abort", stop, { once: true });
  try {
    const [status, stdout, stderr] = await Promise.all([
      ended(child),
      collect(child.stdout, stop, run.onLine),
      collect(child.stderr, stop),
    ]);
    if (signal.aborted) throw toKitError(signal.reason);
    return { status, stdout, stderr };
  } catch (error) {
    throw isErrno(error, "ENOENT") ? missing(program, error) : error;
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

function environment(run: AptRun): Record<string, string> {
  const proxies = Object.entries(run.system.proxies ?? {}).filter(([name]) =>
    /^(?:https?|ftp|all|no)_proxy$/i.test(name),
  );
  return {
    PATH: run.system.path ?? DEFAULT_PATH,
    LC_ALL: "C",
    ...Object.fromEntries(proxies),
    ...(run.configPath === undefined ? {} : { APT_CONFIG: run.configPath }),
  };
}

function ended(child: ReturnType<typeof spawn>): Promise<number> {
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve(code ?? 255));
  });
}

async function collect(
  stream: AsyncIterable<Buffer>,
  stop: () => void,
  onLine?: (line: string) => void,
): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  let rest = "";
  for await (const chunk of stream) {
    bytes += chunk.length;
    if (bytes > MAX_OUTPUT_BYTES) {
      stop();
      throw new KitError("E_IMAGE_APT_OUTPUT", `apt printed more than ${MAX_OUTPUT_BYTES} bytes`);
    }
    chunks.push(chunk);
    if (onLine !== undefined) {
      const lines = (rest + chunk.toString("latin1")).split("\n");
      rest = lines.pop() ?? "";
      lines.forEach(onLine);
    }
  }
  return Buffer.concat(chunks).toString("utf8");
}

function missing(program: string, cause: unknown): KitError {
  return new KitError("E_IMAGE_APT_MISSING", `${program} is not on this machine`, { cause });
}

/** The last lines that apt wrote, for messages. */
export function lastLines(result: AptResult, count = 6): string {
  const lines = `${result.stdout}\n${result.stderr}`.split("\n").filter((line) => line.trim() !== "");
  return lines.slice(-count).join("\n").slice(-2000);
}

/** A refusal that ends with what apt said last; a full disk is told as one, whatever apt was doing. */
export function aptError(code: ErrorCode, what: string, result: AptResult): KitError {
  const text = lastLines(result);
  const isFull = /No space left on device|enough free space/i.test(text);
  return new KitError(isFull ? "E_DISK_FULL" : code, `${what}: ${text}`);
}
