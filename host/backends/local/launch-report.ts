/** What the launcher says when it cannot make the sandbox: `E <step> <errno> <name> <detail>`, turned into advice. */
import type { Readable } from "node:stream";

import { KitError } from "../../../core/errors.ts";
import { userNamespaceRefusal } from "./user-namespace.ts";

const MAX_REPORT_BYTES = 4096;
const NAMESPACE_STEPS = ["userns", "uid_map", "gid_map", "setgroups", "maps", "private"];

/** Resolves once the sandbox runs its init. @throws E_HOST_USER_NAMESPACES, E_BACKEND_LAUNCH, E_DISK_FULL */
export async function awaitLaunch(report: Readable): Promise<void> {
  let text = "";
  for await (const chunk of report) {
    text += String(chunk);
    if (text.length > MAX_REPORT_BYTES) break;
  }
  if (text === "") return;
  throw await refusalOf(text.split("\n", 1)[0] ?? text);
}

async function refusalOf(line: string): Promise<KitError> {
  const [, step = "unknown", , name = "", detail = ""] = /^E (\S+) (\d+) (\S+) ?(.*)$/.exec(line) ?? [];
  const what = `${step}: ${name}${detail === "" ? "" : `: ${detail}`}`;
  if (NAMESPACE_STEPS.includes(step)) return await userNamespaceRefusal(what);
  if (name === "ENOSPC") return new KitError("E_DISK_FULL", `cannot make the sandbox: ${what}`);
  if (step === "newuidmap") {
    return new KitError("E_BACKEND_LAUNCH", `newuidmap refused the range of user ids (${what})`, {
      hint: "Correct your lines in /etc/subuid and /etc/subgid; `pipeline doctor` checks them.",
    });
  }
  if (step === "mount_proc" || step === "mount_sysfs") {
    return new KitError("E_BACKEND_LAUNCH", `cannot mount in the sandbox (${what})`, {
      hint: "Inside a container parts of /proc are masked; run it with --security-opt systempaths=unconfined.",
    });
  }
  return new KitError("E_BACKEND_LAUNCH", `cannot make the sandbox (${what})`);
}
