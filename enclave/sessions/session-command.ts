/** What a session runs: through service-exec, like a service, but as who it asks to be. */
import type { ExecRequest } from "../../wire/control.ts";
import type { ServiceConfig, ServiceUser } from "../../wire/enclave-config.ts";
import type { ArchiveRequest } from "../../wire/session-frames.ts";
import { environmentOf } from "../service-process.ts";
import type { SessionCommand } from "./session-process.ts";

export interface CommandParts {
  readonly serviceExec: string;
  /** False where only one uid exists. */
  readonly setIdentity: boolean;
  /** Numbers of those that the supervisor has and can pass on. */
  readonly capabilities: readonly number[];
}

const ROOT: ServiceUser = { name: "root", uid: 0, gid: 0, groups: [], home: "/root" };
const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/enclave/bin";
/** CHOWN, DAC_OVERRIDE, FOWNER, FSETID: to read and write files of every owner, and to give them away. */
const COPY_CAPABILITIES = [0, 1, 3, 4];

/** Where an exec session runs: with what confines the service, or with nothing. */
export interface ExecPlace {
  readonly service: ServiceConfig | undefined;
  /** Options of service-exec that the service is started with. */
  readonly options: readonly string[];
  /** Looked up where the request names one. */
  readonly user: ServiceUser | undefined;
}

export function execCommand(request: ExecRequest, place: ExecPlace, parts: CommandParts): SessionCommand {
  const { service } = place;
  const user = place.user ?? service?.user ?? ROOT;
  const tty = request.tty === true;
  // Root without a service is the operator himself: development only, and nothing is kept from him.
  const options = service !== undefined || user.uid !== 0 ? place.options : capabilities(parts.capabilities);
  const base = service === undefined ? { PATH, HOME: user.home, USER: user.name } : environmentOf(service);
  const environment = { ...(tty ? { TERM: "xterm-256color" } : {}), ...base, ...request.environment };
  const words = [...(tty ? ["--tty"] : []), "--", ...request.command];
  const cwd = request.workingDir ?? service?.workingDir ?? "/";
  return {
    words: [parts.serviceExec, ...identity(user, cwd, parts), ...options, ...words],
    environment,
    tty,
    reports: false,
  };
}

/** @param program Node with the bundle of archive/archive-main.ts */
export function archiveCommand(
  { direction, path }: ArchiveRequest,
  program: readonly string[],
  parts: CommandParts,
): SessionCommand {
  const owners = direction === "unpack" && !parts.setIdentity ? ["--owners", "caller"] : [];
  const options = capabilities(COPY_CAPABILITIES.filter((number) => parts.capabilities.includes(number)));
  const head = [...identity(ROOT, "/", parts), ...options];
  return {
    words: [parts.serviceExec, ...head, "--", ...program, direction, ...owners, path],
    environment: { PATH, HOME: "/", LANG: "C.UTF-8" },
    tty: false,
    reports: true,
  };
}

function identity({ uid, gid, groups }: ServiceUser, cwd: string, { setIdentity }: CommandParts): string[] {
  const list = groups.length === 0 ? [] : ["--groups", groups.join(",")];
  const who = ["--uid", String(uid), "--gid", String(gid), ...list, "--cwd", cwd];
  return setIdentity ? who : [...who, "--no-setid"];
}

function capabilities(numbers: readonly number[]): string[] {
  return numbers.flatMap((number) => ["--cap", String(number)]);
}
