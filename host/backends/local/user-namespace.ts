import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";

import { KitError } from "../../../core/errors.ts";
import { type IdMap, idMapArguments } from "./id-map.ts";

/** Settings of the kernel that forbid user namespaces, and the value that allows them. */
const SETTINGS: readonly (readonly [string, (value: number) => boolean, string])[] = [
  ["user.max_user_namespaces", (value) => value === 0, "15000"],
  ["kernel.unprivileged_userns_clone", (value) => value === 0, "1"],
  ["kernel.apparmor_restrict_unprivileged_userns", (value) => value === 1, "0"],
];

/** Runs a program as root of a new user namespace. @returns its exit status and what it printed on stdout (64 KiB). */
export async function runInUserNamespace(
  launcher: string,
  map: IdMap,
  command: readonly string[],
  signal: AbortSignal,
): Promise<{ readonly status: number | null; readonly stdout: string; readonly stderr: string }> {
  const child = spawn(launcher, ["userns", ...idMapArguments(map), "--", ...command], {
    stdio: ["ignore", "pipe", "pipe"],
    signal,
  });
  const text = { stdout: "", stderr: "" };
  child.stdout.on(
    "data",
    (chunk: Buffer) => (text.stdout = (text.stdout + chunk.toString()).slice(0, 65_536)),
  );
  child.stderr.on(
    "data",
    (chunk: Buffer) => (text.stderr = (text.stderr + chunk.toString()).slice(0, 65_536)),
  );
  const { promise, resolve, reject } = Promise.withResolvers<number | null>();
  child.once("error", reject);
  child.once("close", resolve);
  return { status: await promise, ...text };
}

/** The refusal to say when a user namespace cannot be made, naming the setting to change. */
export async function userNamespaceRefusal(detail: string): Promise<KitError> {
  const message = `this machine does not let you make user namespaces (${detail})`;
  for (const [name, forbids, allowed] of SETTINGS) {
    const text = await readFile(`/proc/sys/${name.replaceAll(".", "/")}`, "utf8").catch(() => "");
    if (text === "" || !forbids(Number(text))) continue;
    const hint = `${name} is ${text.trim()}; as root: sysctl -w ${name}=${allowed} (in /etc/sysctl.d to keep it).`;
    return new KitError("E_HOST_USER_NAMESPACES", message, { hint });
  }
  return new KitError("E_HOST_USER_NAMESPACES", message);
}
