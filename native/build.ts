/**
 * Builds the static C programs: init, service-exec, initctl and nsm-device (enclave), launcher (host); and the addon for
 * Node.
 *
 * The programs are static, so that they run in any root file system and in none; position of the sources, time and user leave no trace
 * in the result. What `npm ci` builds here runs on this machine only: an EIF gets programs built from locked packages.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { access, copyFile, mkdir, mkdtemp, readdir, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";

import { writeFileAtomic } from "../core/atomic-file.ts";
import { isErrno, KitError } from "../core/errors.ts";

const run = promisify(execFile);

const COMMON_FLAGS = [
  "-std=c17",
  "-D_GNU_SOURCE",
  "-O2",
  "-Wall",
  "-Wextra",
  "-Werror",
  "-fstack-protector-strong",
  // Some distributions define it themselves, with another value.
  "-U_FORTIFY_SOURCE",
  "-D_FORTIFY_SOURCE=2",
  "-Wl,-z,relro,-z,now",
  "-s",
] as const;

/** Of every program; those of an image are compiled with the same ones by the toolchain of its lock. */
export const COMPILER_FLAGS = [...COMMON_FLAGS, "-static"] as const;
/** Of the addon. What it takes from Node and libuv is found when Node loads it. */
export const ADDON_FLAGS = [...COMMON_FLAGS, "-shared", "-fPIC", "-DNAPI_VERSION=9"] as const;

const PROGRAMS = ["init", "initctl", "launcher", "nsm-device", "service-exec"] as const;
const ADDON = "addon";
const ADDON_FILE = "vsock.node";
/** What the addon includes of Node, kept beside the programs: images are compiled with it, wherever Node is. */
const HEADERS_FOLDER = "node-headers";
const HEADERS = [
  "node_api.h",
  "node_api_types.h",
  "js_native_api.h",
  "js_native_api_types.h",
  "uv.h",
] as const;
const LIBRARY_HEADERS = "uv";
const SHARED_FOLDER = "common";
const STAMP = "stamp";
const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const COMPILE_TIMEOUT_MS = 120_000;
const MAX_COMPILER_OUTPUT_BYTES = 1 << 20;

export interface NativeBuildOptions {
  /** Where `cc` and its tools are looked for; the usual system folders unless told. */
  readonly path?: string;
  /** Node's own headers; those of the Node that runs this unless told. */
  readonly nodeHeaders?: string;
}

export interface NativePrograms {
  readonly init: string;
  readonly initctl: string;
  readonly launcher: string;
  readonly serviceExec: string;
  readonly nsmDevice: string;
  readonly addon: string;
  /** Folder of what the addon includes of Node. */
  readonly nodeHeaders: string;
}

interface Compiler {
  readonly environment: Readonly<Record<string, string>>;
  readonly version: string;
  readonly nodeHeaders: string;
}

/**
 * Compiles the programs into `outDir` with the system's `cc` and answers their absolute paths. Does nothing if they
 * are there and neither sources, flags nor compiler changed. Two builds at once do not disturb one another.
 * @throws E_NATIVE_COMPILER no C compiler, or no static C library
 * @throws E_NATIVE_BUILD the compiler refused a source file
 */
export async function buildNative(outDir: string, options: NativeBuildOptions = {}): Promise<NativePrograms> {
  const nodeHeaders = options.nodeHeaders ?? nodeHeadersOf(process.execPath);
  const compiler = { ...(await findCompiler(options.path ?? DEFAULT_PATH)), nodeHeaders };
  const fingerprint = await hashInputs(compiler);
  if (!(await isCurrent(outDir, fingerprint))) await compileAll(outDir, compiler, fingerprint);
  return {
    init: join(outDir, "init"),
    initctl: join(outDir, "initctl"),
    launcher: join(outDir, "launcher"),
    serviceExec: join(outDir, "service-exec"),
    nsmDevice: join(outDir, "nsm-device"),
    addon: join(outDir, ADDON_FILE),
    nodeHeaders: join(outDir, HEADERS_FOLDER),
  };
}

/** Folder of the headers that come with a Node. @param node its executable. */
function nodeHeadersOf(node: string): string {
  return join(dirname(dirname(node)), "include", "node");
}

async function findCompiler(path: string): Promise<Omit<Compiler, "nodeHeaders">> {
  const environment = { PATH: path, LC_ALL: "C" };
  try {
    const { stdout } = await run("cc", ["--version"], { env: environment, timeout: COMPILE_TIMEOUT_MS });
    return { environment, version: stdout };
  } catch (error) {
    throw new KitError("E_NATIVE_COMPILER", `no working C compiler \`cc\` in ${path}`, { cause: error });
  }
}

/** C files of a folder, in one order everywhere. */
async function listSources(folder: string): Promise<readonly string[]> {
  const names = await readdir(join(import.meta.dirname, folder));
  return names.filter((name) => /\.[ch]$/.test(name)).sort();
}

async function hashInputs(compiler: Compiler): Promise<string> {
  const hash = createHash("sha256").update(
    JSON.stringify([compiler.version, COMPILER_FLAGS, ADDON_FLAGS, process.version]),
  );
  for (const folder of [SHARED_FOLDER, ADDON, ...PROGRAMS]) {
    for (const name of await listSources(folder)) {
      const content = await readFile(join(import.meta.dirname, folder, name));
      hash.update(`${folder}/${name} ${content.length}\n`).update(content);
    }
  }
  return hash.digest("hex");
}

async function isCurrent(outDir: string, fingerprint: string): Promise<boolean> {
  try {
    const stamp = await readFile(join(outDir, STAMP), "utf8");
    for (const program of [...PROGRAMS, ADDON_FILE, HEADERS_FOLDER]) await access(join(outDir, program));
    return stamp.trim() === fingerprint;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return false;
    throw error;
  }
}

async function compileAll(outDir: string, compiler: Compiler, fingerprint: string): Promise<void> {
  await mkdir(outDir, { recursive: true });
  const work = await mkdtemp(join(outDir, "work-"));
  try {
    await Promise.all([
      compile(ADDON, join(work, ADDON_FILE), compiler),
      ...PROGRAMS.map((program) => compile(program, join(work, program), compiler)),
    ]);
    for (const program of [...PROGRAMS, ADDON_FILE]) await rename(join(work, program), join(outDir, program));
    await copyHeaders(compiler.nodeHeaders, work, join(outDir, HEADERS_FOLDER));
    await writeFileAtomic(join(outDir, STAMP), `${fingerprint}\n`, { mode: 0o644 });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** One after another, so that somebody who reads meanwhile finds every one whole. */
async function copyHeaders(from: string, work: string, to: string): Promise<void> {
  const library = (await readdir(join(from, LIBRARY_HEADERS))).filter((name) => name.endsWith(".h"));
  await mkdir(join(to, LIBRARY_HEADERS), { recursive: true });
  for (const name of [...HEADERS, ...library.map((header) => `${LIBRARY_HEADERS}/${header}`)]) {
    await copyFile(join(from, name), join(work, "header"));
    await rename(join(work, "header"), join(to, name));
  }
}

async function compile(program: string, output: string, compiler: Compiler): Promise<void> {
  const sources: string[] = [];
  for (const folder of [program, SHARED_FOLDER]) {
    const names = await listSources(folder);
    sources.push(...names.filter((name) => name.endsWith(".c")).map((name) => `${folder}/${name}`));
  }
  try {
    await run(
      "cc",
      [...flagsOf(program, compiler), `-ffile-prefix-map=${import.meta.dirname}=.`, "-o", output, ...sources],
      {
        cwd: import.meta.dirname,
        env: compiler.environment,
        timeout: COMPILE_TIMEOUT_MS,
        maxBuffer: MAX_COMPILER_OUTPUT_BYTES,
      },
    );
  } catch (error) {
    throw explainFailure(program, error);
  }
}

function flagsOf(program: string, { nodeHeaders }: Compiler): readonly string[] {
  return program === ADDON ? [...ADDON_FLAGS, "-isystem", nodeHeaders] : COMPILER_FLAGS;
}

function explainFailure(program: string, cause: unknown): KitError {
  const output =
    cause instanceof Error && "stderr" in cause && typeof cause.stderr === "string"
      ? cause.stderr
      : String(cause);
  const missing = /cannot find -l\w+|fatal error: [\w./]+\.h: No such file|cannot find crt\w+\.o/.exec(
    output,
  )?.[0];
  if (missing !== undefined) {
    return new KitError("E_NATIVE_COMPILER", `cannot link ${program} statically: ${missing}`, { cause });
  }
  const lines = output.split("\n").filter((line) => line.includes("error"));
  return new KitError("E_NATIVE_BUILD", `cannot compile ${program}: ${lines[0] ?? output.slice(0, 200)}`, {
    cause,
    details: { output: output.slice(0, 4000) },
  });
}
