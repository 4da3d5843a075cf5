/**
 * What unmodified programs talk to: redis, PostgreSQL and sshd in an enclave of their own, and web servers of this
 * process with a repository of git and a mirror of apt behind them.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

import { openTestbed, StatusJson, type Testbed } from "../e2e/testbed.ts";
import { listen, portOf } from "../pf-proxy/relay-chain.ts";

const run = promisify(execFile);

/** Host ports of 127.0.0.1. */
export interface ServerPorts {
  readonly http: number;
  readonly https: number;
  /** Undefined where one uid is all there is: these refuse to be root. */
  readonly redis: number;
  readonly postgres: number | undefined;
  readonly ssh: number | undefined;
}

const SERVERS = (hasUsers: boolean): string => `
name: servers
mode: development
image: { base: { debian: [redis-server${hasUsers ? ", postgresql, openssh-server, git" : ""}] } }
services:
  redis:
    command: [redis-server, --port, "6379", --save, ""]
    healthcheck: { tcp: 6379, interval: 1s, start_period: 60s }
${
  hasUsers
    ? `
  postgres:
    command: [sh, -c, "PATH=$PATH:$(echo /usr/lib/postgresql/*/bin); initdb -D /tmp/pg -A trust -U postgres && exec postgres -D /tmp/pg -h 127.0.0.1 -p 5432 -k /tmp"]
    user: postgres
    healthcheck: { tcp: 5432, interval: 1s, start_period: 120s }
  sshd:
    command: [sh, -c, "mkdir -p /tmp/ssh && ssh-keygen -q -t ed25519 -N '' -f /tmp/ssh/host && exec /usr/sbin/sshd -D -e -f /dev/null -p 2222 -h /tmp/ssh/host -o UsePAM=no -o StrictModes=no -o PidFile=none -o AuthorizedKeysFile=/tmp/ssh/keys"]
    user: postgres
    healthcheck: { tcp: 2222, interval: 1s, start_period: 60s }
`
    : ""
}
ports: ["127.0.0.1:0:6379"${hasUsers ? ', "127.0.0.1:0:5432", "127.0.0.1:0:2222"' : ""}]
local: { single_user: true }
`;

export class ProgramServers implements AsyncDisposable {
  /** PEM of the authority that signed the web server's certificate. */
  readonly authority: string;
  readonly ports: ServerPorts;
  readonly #bed: Testbed;
  readonly #stack: AsyncDisposableStack;

  private constructor(
    bed: Testbed,
    stack: AsyncDisposableStack,
    facts: { authority: string; ports: ServerPorts },
  ) {
    this.#bed = bed;
    this.#stack = stack;
    this.authority = facts.authority;
    this.ports = facts.ports;
  }

  static async open(): Promise<ProgramServers> {
    await using stack = new AsyncDisposableStack();
    const directory = await mkdtemp(join(tmpdir(), "servers-"));
    stack.defer(() => rm(directory, { recursive: true, force: true }));
    const bed = stack.use(await openTestbed());
    const hasUsers = process.getuid?.() === 0;
    const file = join(directory, "enclave.yaml");
    await writeFile(file, SERVERS(hasUsers));
    const status = StatusJson.parse(
      JSON.parse(await bed.succeed("up", file, "-d", "--json", "--timeout", "180s")),
    );
    const portOfService = (port: number): number =>
      status.ports.find(({ servicePort }) => servicePort === port)?.hostPort ?? 0;
    const { authority, key, certificate } = await makeCertificates(directory);
    const answer = await openFiles(directory);
    const http = await openServer(stack, createServer(answer));
    const https = await openServer(stack, createTlsServer({ key, cert: certificate }, answer));
    if (hasUsers) await makeRepository(bed);
    const ports = {
      http,
      https,
      redis: portOfService(6379),
      postgres: hasUsers ? portOfService(5432) : undefined,
      ssh: hasUsers ? portOfService(2222) : undefined,
    };
    return new ProgramServers(bed, stack.move(), { authority, ports });
  }

  /** Lets a public key log in at sshd. */
  async trust(publicKey: string): Promise<void> {
    await this.#bed.succeed(
      "exec",
      "servers",
      "--",
      "sh",
      "-c",
      `echo '${publicKey}' >> /tmp/ssh/keys; chmod 644 /tmp/ssh/keys`,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

async function openServer(stack: AsyncDisposableStack, server: Server): Promise<number> {
  await listen(server, { port: 0, host: "127.0.0.1" });
  stack.defer(() => {
    server.closeAllConnections();
    server.close();
  });
  return portOf(server);
}

async function makeCertificates(
  directory: string,
): Promise<{ authority: string; key: string; certificate: string }> {
  const at = (name: string): string => join(directory, name);
  const openssl = async (...words: string[]): Promise<void> => void (await run("openssl", words));
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  await openssl(
    "req",
    "-x509",
    ...curve,
    "-keyout",
    at("ca.key"),
    "-out",
    at("ca.pem"),
    "-days",
    "2",
    "-subj",
    "/CN=test authority",
  );
  await openssl("req", ...curve, "-keyout", at("web.key"), "-out", at("web.csr"), "-subj", "/CN=web.test");
  await writeFile(at("names"), "subjectAltName=DNS:web.test,DNS:git.test\n");
  await openssl(
    "x509",
    "-req",
    "-in",
    at("web.csr"),
    "-CA",
    at("ca.pem"),
    "-CAkey",
    at("ca.key"),
    "-CAcreateserial",
    "-days",
    "2",
    "-extfile",
    at("names"),
    "-out",
    at("web.pem"),
  );
  const [authority, key, certificate] = await Promise.all(
    ["ca.pem", "web.key", "web.pem"].map((name) => readFile(at(name), "utf8")),
  );
  return { authority: authority ?? "", key: key ?? "", certificate: certificate ?? "" };
}

/** `/hello` says so; `/repo.git/` is a repository of git as plain files; `/apt/` a flat mirror with one package. */
async function openFiles(
  directory: string,
): Promise<(request: IncomingMessage, response: ServerResponse) => void> {
  const root = join(directory, "www");
  await makeLocalRepository(join(root, "repo.git"), join(directory, "work"));
  await makeMirror(join(root, "apt"));
  return (request, response) => {
    const path = new URL(request.url ?? "/", "http://x").pathname;
    if (path === "/hello") return void response.end(`hello ${request.headers.host ?? ""}\n`);
    readFile(join(root, path.replaceAll("..", ""))).then(
      (bytes) => response.end(bytes),
      () => response.writeHead(404).end(),
    );
  };
}

async function makeLocalRepository(repository: string, work: string): Promise<void> {
  const git = async (...words: string[]): Promise<void> =>
    void (await run("git", [
      "-c",
      "user.name=t",
      "-c",
      "user.email=t@t.test",
      "-c",
      "init.defaultBranch=main",
      ...words,
    ]));
  await git("init", "-q", work);
  await writeFile(join(work, "README"), "from git\n");
  await git("-C", work, "add", ".");
  await git("-C", work, "commit", "-qm", "first");
  await git("clone", "-q", "--bare", work, repository);
  await git("-C", repository, "update-server-info");
}

/** In the enclave of the servers, for ssh. */
async function makeRepository(bed: Testbed): Promise<void> {
  const script = `export HOME=/tmp; git config --global user.name t; git config --global user.email t@t.test
    git config --global --add safe.directory '*'; git init -q -b main /tmp/work; cd /tmp/work
    echo 'from git over ssh' > README; git add .; git commit -qm first; git clone -q --bare /tmp/work /tmp/repo.git`;
  await bed.succeed("exec", "servers", "-s", "sshd", "--", "sh", "-c", script);
}

/** One package that says that it came. */
async function makeMirror(directory: string): Promise<void> {
  const tree = join(directory, "tree");
  await mkdir(join(tree, "DEBIAN"), { recursive: true });
  await mkdir(join(tree, "opt"), { recursive: true });
  await writeFile(join(tree, "opt", "came"), "by apt\n");
  const control = [
    "Package: came",
    "Version: 1.0",
    "Architecture: all",
    "Maintainer: t <t@t.test>",
    "Description: a test",
  ];
  await writeFile(join(tree, "DEBIAN", "control"), `${control.join("\n")}\n`);
  await run("dpkg-deb", ["--root-owner-group", "--build", tree, join(directory, "came.deb")]);
  const bytes = await readFile(join(directory, "came.deb"));
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  const packages = `${control.join("\n")}\nFilename: ./came.deb\nSize: ${bytes.length}\nSHA256: ${sha256}\n`;
  await writeFile(join(directory, "Packages"), packages);
  const digest = createHash("sha256").update(packages).digest("hex");
  await writeFile(
    join(directory, "Release"),
    `Date: ${new Date().toUTCString()}\nSHA256:\n ${digest} ${packages.length} Packages\n`,
  );
}
