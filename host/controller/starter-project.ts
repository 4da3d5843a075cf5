import { access, mkdir, writeFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";

import { isErrno, KitError } from "../../core/errors.ts";

const SERVER = `// Answers every request; replace it with your own service.
const { createServer } = require("node:http");

const server = createServer((request, response) => response.end("hello from inside\\n"));
server.listen(8080, "127.0.0.1", () => console.log("listening on 8080"));
process.on("SIGTERM", () => server.close());
`;

function yamlOf(name: string): string {
  return `# All keys: docs/enclave-yaml.md of the toolkit.
name: ${name}
mode: development # development | production
image:
  base: { debian: [] } # add Debian packages here
  copy: [{ from: ./app, to: /app }]
resources: { cpus: 1, memory: 512MiB }
services:
  web:
    command: [node, /app/server.js]
    restart: on-failure
    healthcheck: { http: "http://127.0.0.1:8080/" }
ports: ["127.0.0.1:8080:8080"]
`;
}

/**
 * Writes a project that runs as it is.
 * @returns paths of the files.
 * @throws E_HOST_EXISTS if one of them is there already; then nothing is written.
 */
export async function writeStarterProject(directory: string): Promise<string[]> {
  const root = resolve(directory);
  const files = new Map([
    [join(root, "enclave.yaml"), yamlOf(nameFrom(root))],
    [join(root, "app", "server.js"), SERVER],
    [join(root, "app", "package.json"), '{ "type": "commonjs" }\n'],
  ]);
  for (const path of files.keys()) await refuseExisting(path);
  for (const [path, text] of files) {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, text, { flag: "wx" });
  }
  return [...files.keys()];
}

async function refuseExisting(path: string): Promise<void> {
  try {
    await access(path);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return;
    throw error;
  }
  throw new KitError("E_HOST_EXISTS", `${path} exists already`);
}

/** The directory's name as far as a name of an enclave allows it. */
function nameFrom(directory: string): string {
  const name = basename(directory).toLowerCase().replaceAll(/[^a-z0-9-]+/g, "-").replaceAll(/^-+|-+$/g, "").slice(0, 32); // prettier-ignore
  return name === "" ? "enclave" : name;
}
