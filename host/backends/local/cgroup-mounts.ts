/**
 * Where this process may make cgroups, from two files of /proc.
 *
 *   /proc/self/mountinfo   `36 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:5 - cgroup cgroup rw,memory`
 *                          id, parent, device, root of the mount within the file system, mount point, options, any
 *                          number of tags, `-`, type, source, options of the file system. Blanks in paths are `\040`.
 *   /proc/self/cgroup      `4:memory:/user.slice` or `0::/user.slice`
 *                          hierarchy, its controllers (version 2: none), the path of this process within it
 */
import { join } from "node:path";

export interface CgroupMount {
  /** Empty for version 2, else the controllers of the hierarchy that are used here. */
  readonly controllers: readonly LegacyController[];
  readonly isUnified: boolean;
  readonly mountPoint: string;
  /** Directory of the cgroup that this process is in; the mount point where that lies outside of the mount. */
  readonly own: string;
}

/** Those that limit, count or hold a whole enclave. */
const LEGACY_CONTROLLERS = ["memory", "pids", "cpu", "cpuacct", "freezer"] as const;
export type LegacyController = (typeof LEGACY_CONTROLLERS)[number];

/** One mount for each hierarchy. Lines of another form, and file systems of another kind, are passed over. */
export function parseCgroupMounts(mountinfo: string, cgroup: string): CgroupMount[] {
  const paths = parseOwnPaths(cgroup);
  const found = new Map<string, CgroupMount>();
  for (const line of mountinfo.split("\n")) {
    const mount = parseMount(line, paths);
    const key = mount?.controllers.join(",") ?? "";
    if (mount !== undefined && !found.has(key)) found.set(key, mount);
  }
  return [...found.values()];
}

function parseMount(line: string, paths: ReadonlyMap<string, string>): CgroupMount | undefined {
  const fields = line.split(" ");
  const end = fields.indexOf("-", 6);
  const [type, , options = ""] = end === -1 ? [] : fields.slice(end + 1);
  const [, , , root = "", mountPoint = ""] = fields.map(unescape);
  if (!mountPoint.startsWith("/")) return undefined;
  const inside = (name: string): string => join(mountPoint, relativeTo(root, paths.get(name) ?? root));
  if (type === "cgroup2") return { controllers: [], isUnified: true, mountPoint, own: inside("") };
  const names = type === "cgroup" ? options.split(",") : [];
  const controllers = LEGACY_CONTROLLERS.filter((name) => names.includes(name));
  const [first] = controllers;
  return first === undefined ? undefined : { controllers, isUnified: false, mountPoint, own: inside(first) };
}

/** Path by controller; version 2 has the empty name. */
function parseOwnPaths(cgroup: string): Map<string, string> {
  const paths = new Map<string, string>();
  for (const line of cgroup.split("\n")) {
    const [, names, path] = /^[0-9]+:([^:]*):(\/.*)$/.exec(line) ?? [];
    if (names === undefined || path === undefined) continue;
    for (const name of names.split(",")) paths.set(name, path);
  }
  return paths;
}

/** In a container the mount may show only a part of the hierarchy, and a namespace may count paths from elsewhere. */
function relativeTo(root: string, path: string): string {
  if (path.split("/").includes("..")) return "";
  if (root === "/") return path;
  return path === root || path.startsWith(`${root}/`) ? path.slice(root.length) : "";
}

function unescape(field: string): string {
  return field.replaceAll(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(parseInt(digits, 8)));
}
