/** What this machine has and lacks for the toolkit, each with the command that mends it. */
import { access, constants, readFile, statfs } from "node:fs/promises";
import { delimiter, join } from "node:path";

import { toKitError } from "../../core/errors.ts";
import { chooseIdMap } from "../backends/local/id-map.ts";
import { runInUserNamespace, userNamespaceRefusal } from "../backends/local/user-namespace.ts";
import { type Finding, ok } from "./doctor/finding.ts";
import { examineNitro } from "./doctor/nitro.ts";
import { examineQemu } from "./doctor/qemu.ts";
import type { WantedEnclave } from "./doctor/wanted-enclave.ts";
import { listEnclaves } from "./inspect.ts";
import { trySandbox } from "./sandbox-trial.ts";
import type { Toolkit } from "./toolkit.ts";

const TRY_TIMEOUT_MS = 10_000;
const WANTED_FREE_BYTES = 2 * 1024 ** 3;
/** Overlay file systems in user namespaces, and the launcher's way of mounting. */
const KERNEL_NEEDED = [5, 12] as const;
const NODE_NEEDED = 26;

/** @param wanted what is to run on the hardware, as far as it is known */
export async function examineMachine(toolkit: Toolkit, wanted: WantedEnclave = {}): Promise<Finding[]> {
  const { searchPath, userName, uid } = toolkit.caller;
  const user = { name: userName, uid, groups: process.getgroups?.() ?? [] };
  const findings = await Promise.all([
    checkKernel(),
    checkNode(toolkit),
    checkUserNamespace(toolkit),
    checkSandbox(toolkit),
    checkIdRange(toolkit),
    checkApt(toolkit),
    checkDisk(toolkit),
    checkRecords(toolkit),
    checkQemu(toolkit),
    examineNitro({ root: "/", searchPath, user, wanted }),
  ]);
  return findings.flat();
}

async function checkKernel(): Promise<Finding> {
  const release = (await readFile("/proc/sys/kernel/osrelease", "utf8")).trim();
  const [major = 0, minor = 0] = release.split(".").map((part) => Number.parseInt(part, 10));
  const [wantedMajor, wantedMinor] = KERNEL_NEEDED;
  if (major > wantedMajor || (major === wantedMajor && minor >= wantedMinor))
    return ok("kernel", `Linux ${release}`);
  return {
    check: "kernel",
    result: "fail",
    detail: `Linux ${release}`,
    fix: `use Linux ${KERNEL_NEEDED.join(".")} or newer`,
  };
}

/** The packaged Node, which runs the toolkit and goes into images. */
async function checkNode({ node }: Toolkit): Promise<Finding> {
  const [major = 0] = process.versions.node.split(".").map(Number);
  const detail = `${process.version} (${node})`;
  if (major >= NODE_NEEDED) return ok("node", detail);
  const fix = "run `npm ci` again, with optional dependencies: they bring Node";
  return { check: "node", result: "warn", detail: `${detail}; made for ${NODE_NEEDED}`, fix };
}

/** Really starts one: namespaces, overlay, proc and sysfs, devices. */
async function checkSandbox(toolkit: Toolkit): Promise<Finding> {
  const check = "sandbox";
  try {
    await trySandbox(toolkit, AbortSignal.timeout(TRY_TIMEOUT_MS));
    return ok(check, "namespaces, overlay, proc, sysfs and devices work");
  } catch (error) {
    const { message, hint } = toKitError(error);
    return { check, result: "fail", detail: message, fix: hint };
  }
}

/** Really makes one, with the map that enclaves would have. */
async function checkUserNamespace({ nativeDir, caller, node }: Toolkit): Promise<Finding> {
  const check = "user namespaces";
  const map = await chooseIdMap(caller);
  try {
    const signal = AbortSignal.timeout(TRY_TIMEOUT_MS);
    const { status, stderr } = await runInUserNamespace(
      join(nativeDir, "launcher"),
      map,
      [node, "--version"],
      signal,
    );
    if (status === 0)
      return ok(check, map.kind === "single" ? "work, with one user id" : "work, with a range of ids");
    const refusal = await userNamespaceRefusal(stderr.trim());
    return { check, result: "fail", detail: refusal.message, fix: refusal.hint };
  } catch (error) {
    return { check, result: "fail", detail: toKitError(error).message, fix: "run `npm ci` again" };
  }
}

async function checkIdRange({ caller }: Toolkit): Promise<Finding> {
  const check = "range of user ids";
  const map = await chooseIdMap(caller);
  if (map.kind !== "single")
    return ok(check, map.kind === "root-range" ? "root has one" : `from ${map.base} on`);
  return {
    check,
    result: "warn",
    detail: "this user has one id: services cannot have users of their own",
    fix: `apt-get install uidmap, and as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ${caller.userName}`,
  };
}

async function checkApt({ caller }: Toolkit): Promise<Finding> {
  for (const program of ["apt-get", "dpkg-deb"]) {
    if (await isInPath(program, caller.searchPath)) continue;
    const fix = "use oci: or directory: with a local copy, or build on Debian or Ubuntu";
    return { check: "apt", result: "warn", detail: `${program} is missing: no Debian bases`, fix };
  }
  return ok("apt", "apt-get and dpkg-deb are there");
}

async function checkQemu({ architecture, caller }: Toolkit): Promise<Finding[]> {
  const { searchPath, userName } = caller;
  const hasApt = await isInPath("apt-get", searchPath);
  return await examineQemu({ root: "/", architecture, searchPath, userName, hasApt });
}

async function isInPath(name: string, searchPath: string): Promise<boolean> {
  const tries = searchPath
    .split(delimiter)
    .map(async (directory) => await access(join(directory, name), constants.X_OK));
  return (await Promise.allSettled(tries)).some((one) => one.status === "fulfilled");
}

async function checkDisk({ cacheDir }: Toolkit): Promise<Finding> {
  const check = "disk space";
  const existing = await nearestExisting(cacheDir);
  const { bavail, bsize } = await statfs(existing);
  const freeBytes = bavail * bsize;
  const detail = `${(freeBytes / 1024 ** 3).toFixed(1)} GiB free for ${cacheDir}`;
  if (freeBytes >= WANTED_FREE_BYTES) return ok(check, detail);
  return { check, result: "warn", detail, fix: "free space, or choose another place with --cache-dir" };
}

async function nearestExisting(path: string): Promise<string> {
  const isThere = await access(path).then(
    () => true,
    () => false,
  );
  return isThere || path === "/" ? path : await nearestExisting(join(path, ".."));
}

async function checkRecords({ stateDir }: Toolkit): Promise<Finding> {
  const check = "enclaves";
  const { records, damaged } = await listEnclaves(stateDir);
  const failed = records.filter((record) => record.state === "failed").map((record) => record.name);
  if (damaged.length > 0) {
    return {
      check,
      result: "warn",
      detail: damaged.map((error) => error.message).join("; "),
      fix: "pipeline down NAME",
    };
  }
  if (failed.length === 0) return ok(check, `${records.length} known`);
  return {
    check,
    result: "warn",
    detail: `failed: ${failed.join(", ")}`,
    fix: `pipeline status NAME, then pipeline down ${failed.join(" ")}`,
  };
}
