/** Commands beside the services: client, gateway, supervisor and processes as in an enclave, without its namespaces. */
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFile, stat } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { PassThrough, Readable, Writable } from "node:stream";
import { buffer, text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { ControlClient } from "../../control/control-client.ts";
import { runExec } from "../../control/exec-session.ts";
import type { EventEntry, ExecRequest } from "../../wire/control.ts";
import { MAX_SESSIONS } from "../../wire/session-frames.ts";
import { eventually } from "./eventually.ts";
import { isAlive } from "./running-group.ts";
import { RunningSupervisor } from "./running-supervisor.ts";
import { enclaveConfig, shellService } from "./service-configs.ts";

const MIB = 1024 ** 2;
const IS_ROOT = process.getuid?.() === 0;
const running: { enclave?: RunningSupervisor } = {};

function enclave(): RunningSupervisor {
  if (running.enclave === undefined) throw new Error("not started");
  return running.enclave;
}

function client(): ControlClient {
  return new ControlClient(async (signal) => {
    const socket = connect({ path: enclave().socketPath(9001), allowHalfOpen: true });
    await once(socket, "connect", { signal });
    return socket;
  });
}

function deadline(): AbortSignal {
  return AbortSignal.timeout(30_000);
}

beforeAll(async () => {
  const service = shellService("web", "exec sleep 1000", {
    environment: { PATH: "/usr/bin:/bin", MINE: "yes" },
  });
  running.enclave = await RunningSupervisor.startReady(enclaveConfig([service]));
  await running.enclave.untilState("web", "running");
});
afterAll(async () => {
  await running.enclave?.[Symbol.asyncDispose]();
});

interface Ran {
  readonly exitCode: number | null;
  readonly reason: string | null;
  readonly stdout: string;
  readonly stderr: string;
}

async function run(request: ExecRequest, stdin?: Readable): Promise<Ran> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const [out, err] = [text(stdout), text(stderr)];
  const streams = { stdout, stderr, ...(stdin === undefined ? {} : { stdin }) };
  const { exitCode, reason } = await runExec(client(), request, { ...streams, signal: deadline() });
  stdout.end();
  stderr.end();
  return { exitCode, reason, stdout: await out, stderr: await err };
}

function sh(script: string, rest: Partial<ExecRequest> = {}): ExecRequest {
  return { command: ["/bin/sh", "-c", script], ...rest };
}

describe("a command", () => {
  test.each([
    ["exit 0", 0, "exited(0)"],
    ["exit 7", 7, "exited(7)"],
    ["kill -TERM $$", 143, "crashed(SIGTERM)"],
    ["kill -SYS $$", 159, "syscall_denied"],
  ])("%s ends with %i", async (script, exitCode, reason) => {
    expect(await run(sh(script))).toMatchObject({ exitCode, reason });
  });

  test("that is not there, or may not run, says so", async () => {
    expect(await run({ command: ["no-such-program"] })).toMatchObject({ exitCode: 127 });
    expect(await run({ command: ["/etc/passwd"] })).toMatchObject({ exitCode: 126 });
  });

  test("has its output and its errors apart, its own environment, directory and input", async () => {
    const script = "cat; pwd; echo $A $MINE; echo err >&2";
    const rest = { environment: { A: "given" }, workingDir: "/tmp" };
    expect(await run(sh(script, rest), Readable.from(["typed\n"]))).toMatchObject({
      stdout: "typed\n/tmp\ngiven\n",
      stderr: "err\n",
    });
    expect((await run(sh(script, { ...rest, service: "web" }))).stdout).toBe("/tmp\ngiven yes\n");
  });

  test.skipIf(!IS_ROOT)("runs as whom it asks to, by name, number or both", async () => {
    const ids = async (user: string): Promise<string> => (await run({ command: ["id"], user })).stdout;
    expect(await ids("nobody")).toMatch(/^uid=65534\(nobody\) gid=65534/);
    expect(await ids("4242")).toMatch(/^uid=4242 gid=4242/);
    expect(await ids("4242:50")).toMatch(/^uid=4242 gid=50/);
    await expect(ids("no-such-user")).rejects.toMatchObject({ code: "E_EXEC_USER" });
  });

  test.skipIf(IS_ROOT)(
    "is not run as root where somebody else was asked for and there is one user id",
    async () => {
      await expect(run({ command: ["id"], user: "nobody" })).rejects.toMatchObject({ code: "E_EXEC_USER" });
    },
  );

  test("carries bytes of every value both ways unharmed, while gateway and supervisor stay small", async () => {
    const block = randomBytes(MIB);
    const sent = createHash("sha256");
    const received = createHash("sha256");
    const source = Readable.from(
      (function* () {
        for (let index = 0; index < 48; index += 1) {
          sent.update(block);
          yield block;
        }
      })(),
    );
    const stdout = new Writable({
      write: (chunk: Buffer, _encoding, done) => void (received.update(chunk), done()),
    });
    const streams = { stdin: source, stdout, stderr: new PassThrough() };
    await runExec(client(), { command: ["cat"] }, { ...streams, signal: deadline() });
    expect(received.digest("hex")).toBe(sent.digest("hex"));
  });

  test("that prints while nobody reads waits, and is gone when its client is", async () => {
    const created = await client().createExec(sh("echo $$; exec yes"), deadline());
    const socket = await client().startExec(created.id, undefined, deadline());
    socket.resume();
    const pid = await readPid(socket);
    socket.pause();
    const before = await residentMib();
    await eventually("a full pipe", async () => (await waitsToWrite(pid)) || undefined);
    expect((await residentMib()) - before).toBeLessThan(32);
    socket.destroy();
    await eventually("the end of the command", async () => !(await isAlive(pid)));
  });

  test("ends when the gateway is killed", async () => {
    const created = await client().createExec(sh("trap '' HUP; echo $$; sleep 1000"), deadline());
    const socket: Socket = await client().startExec(created.id, undefined, deadline());
    socket.on("error", () => undefined).resume();
    const pid = await readPid(socket);
    process.kill((await enclave().status()).gateway.pid ?? 0, "SIGKILL");
    await eventually("the end of the command", async () => !(await isAlive(pid)));
    await eventually(
      "the next gateway",
      async () =>
        (await enclave()
          .status()
          .catch(() => undefined)) !== undefined,
    );
  }, 30_000);
});

describe("sessions", () => {
  test("are so many at one time, and one more is refused", async () => {
    const ids: number[] = [];
    for (let index = 0; index < MAX_SESSIONS; index += 1)
      ids.push((await client().createExec({ command: ["true"] }, deadline())).id);
    await expect(client().createExec({ command: ["true"] }, deadline())).rejects.toMatchObject({
      code: "E_CONTROL_BUSY",
    });
    for (const id of ids) (await client().startExec(id, undefined, deadline())).resume();
    for (const id of ids) expect((await client().waitExec(id, deadline())).exitCode).toBe(0);
  });

  test("are started once, and only those that were made", async () => {
    const { id } = await client().createExec({ command: ["true"] }, deadline());
    (await client().startExec(id, undefined, deadline())).resume();
    for (const again of [id, 4_000_000_000])
      await expect(client().startExec(again, undefined, deadline())).rejects.toMatchObject({
        code: "E_EXEC_UNKNOWN",
      });
    await expect(client().waitExec(4_000_000_000, deadline())).rejects.toMatchObject({
      code: "E_EXEC_UNKNOWN",
    });
    await expect(
      client().createExec({ command: ["true"], service: "nobody" }, deadline()),
    ).rejects.toMatchObject({
      code: "E_SERVICE_UNKNOWN",
    });
  });

  test("show in the events by their programs, and never by what these were told", async () => {
    await run(sh("echo secret-argument", { environment: { TOKEN: "secret-value" } }));
    const events: EventEntry[] = [];
    for await (const batch of client().events(false, deadline())) events.push(...batch);
    const messages = events.map((event) => event.message).join("\n");
    expect(messages).toMatch(/exec \/bin\/sh: exited\(0\)/);
    expect(messages).not.toMatch(/secret/);
  });
});

describe("the socket of streams", () => {
  const socketPath = (): string => join(enclave().directory, "streams", "session.sock");

  test("is for the gateway alone", async () => {
    const { mode, uid } = await stat(socketPath());
    expect(mode & 0o777).toBe(0o600);
    if (IS_ROOT) expect(uid).toBe(64_001);
  });

  test.each([
    ["a token that nobody has", `${"0".repeat(32)}0`],
    ["what is no token", "x".repeat(33)],
    ["more than a hello", `${"0".repeat(32)}0 and more`],
  ])("closes on %s", async (_name, hello) => {
    const socket = connect(socketPath());
    socket.write(hello);
    expect((await buffer(socket)).length).toBe(0);
  });

  test("closes on who says nothing", async () => {
    const socket = connect(socketPath());
    expect((await buffer(socket)).length).toBe(0);
  });
});

/** The number in the first line that the command printed. */
async function readPid(socket: Socket): Promise<number> {
  let bytes = Buffer.alloc(0);
  for (;;) {
    const [chunk] = await once(socket, "data");
    bytes = Buffer.concat([bytes, chunk as Buffer]);
    const digits = /^(\d+)\n/.exec(bytes.subarray(8).toString("latin1"))?.[1];
    if (digits !== undefined) return Number(digits);
  }
}

async function residentMib(): Promise<number> {
  const { supervisor, gateway } = await enclave().status();
  const sizes = [supervisor.pid, gateway.pid ?? 0].map(async (pid) => {
    const status = await readFile(`/proc/${pid}/status`, "utf8");
    return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) / 1024;
  });
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
}

/** True while the process sleeps in a write to a socket. */
async function waitsToWrite(pid: number): Promise<boolean> {
  const state = /^\d+ \(.*\) (\S)/s.exec(await readFile(`/proc/${pid}/stat`, "utf8"))?.[1];
  return state === "S";
}
