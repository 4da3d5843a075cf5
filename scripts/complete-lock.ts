/**
 * Adds what npm leaves out of package-lock.json where a registry does not serve the packages of other platforms: npm
 * then writes a lock that its own `npm ci` refuses. The entries say for which platform they are, so they are skipped
 * here and fetched where they fit. Run it after every change of the dependencies.
 */
import { readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

interface Entry {
  readonly version?: string;
  readonly dev?: boolean;
  readonly optional?: boolean;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

const SYSTEMS = ["android", "darwin", "freebsd", "linux", "openharmony", "win32", "wasi"];
const PROCESSORS = ["arm64", "arm", "x64", "ia32", "ppc64", "riscv64", "s390x", "wasm32"];

const path = join(dirname(fileURLToPath(import.meta.url)), "..", "package-lock.json");
const lock: { packages: Record<string, Entry> } = JSON.parse(await readFile(path, "utf8"));
let added = 0;
for (const [parent, entry] of Object.entries(lock.packages)) {
  for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
    const place = parent === "" ? undefined : freePlace(parent, name, version);
    if (place === undefined) continue;
    const dev = entry.dev === true ? { dev: true } : {};
    lock.packages[place] = { version, ...platformOf(name), ...dev, optional: true };
    added += 1;
  }
}
lock.packages = Object.fromEntries(Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : 1)));
await writeFile(path, `${JSON.stringify(lock, undefined, 2)}\n`);
process.stdout.write(`${added} entries added\n`);

/** Where npm would put it: beside its parent, or inside where another version lies there; undefined if it is there. */
function freePlace(parent: string, name: string, version: string): string | undefined {
  const beside = `${parent.slice(0, parent.lastIndexOf("node_modules/"))}node_modules/${name}`;
  const inside = `${parent}/node_modules/${name}`;
  for (const place of [inside, beside, `node_modules/${name}`]) {
    const present = lock.packages[place]?.version;
    if (present === version || (present !== undefined && !/^\d/.test(version))) return undefined;
  }
  return lock.packages[beside] === undefined ? beside : inside;
}

/** Names end in the platform: `binding-linux-arm64-musl`, `darwin-x64`. */
function platformOf(name: string): { os: string[]; cpu: string[] } {
  const words = name.split(/[/-]/);
  const os = SYSTEMS.find((system) => words.includes(system));
  const cpu = PROCESSORS.find((processor) => words.includes(processor));
  if (os === undefined || cpu === undefined) throw new Error(`no platform in the name ${name}`);
  return { os: [os], cpu: [cpu] };
}
