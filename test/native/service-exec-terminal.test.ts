import { randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { execute, SELF, userOf } from "./execution.ts";
import { isAlive, isRoot, openWorkshop, until, type Workshop } from "./sandbox.ts";
import { TerminalSession } from "./terminal-session.ts";

let workshop: Workshop;
beforeAll(async () => {
  workshop = await openWorkshop();
});
afterAll(() => workshop[Symbol.asyncDispose]());

const open = (options: readonly string[], ...command: string[]) =>
  TerminalSession.open(workshop, { options, command });
const shell = (script: string) => open(SELF, "sh", "-c", script);

/** A filter that allows everything. */
const ALLOW_ALL = Buffer.from([0x06, 0, 0, 0, 0, 0, 0xff, 0x7f]);

describe("--tty gives a program a terminal", () => {
  test("as descriptors 0 to 2 and as its controlling terminal, and nothing else", async () => {
    await using session = await shell(
      "test -t 0 && test -t 1 && test -t 2 && echo three; echo four >/dev/tty; ls /proc/self/fd | tr '\\n' ' '; ps -o pid=,pgid=,sid=,tpgid= $$; echo $$",
    );
    expect(await session.ended()).toEqual({ code: 0, signal: null });
    const [three, four, rest = "", pid] = session.text.split("\n");
    expect([three, four]).toEqual(["three", "four"]);
    const words = rest.trim().split(/\s+/);
    expect(words.slice(0, 3)).toEqual(["0", "1", "2"]);
    // ls has its own folder open; then come the numbers of ps.
    expect(words.slice(4)).toEqual([pid, pid, pid, pid]);
    expect(await session.error).toBe("");
  });

  test("with the size that it is told, from the first instruction on", async () => {
    await using session = await TerminalSession.open(workshop, {
      options: SELF,
      command: ["stty", "size"],
      size: [50, 132],
    });
    await session.ended();
    expect(session.text).toBe("50 132\n");
  });

  test("with 24 rows of 80 where nobody tells", async () => {
    await using session = await open(SELF, "stty", "size");
    await session.ended();
    expect(session.text).toBe("24 80\n");
  });

  test("that follows its client's size, also where a record comes in pieces", async () => {
    await using session = await shell(
      "trap 'stty size' WINCH; echo ready; while :; do read line && test \"$line\" = end && exit; done",
    );
    await session.shows("ready");
    session.resize(10, 20);
    await session.shows("10 20");
    session.sendSizes(Buffer.from([0, 30, 0]));
    session.sendSizes(Buffer.from([40, 0, 50, 0x01, 0x2c]));
    await session.shows("50 300");
    session.relay.stdio[4]?.destroy();
    session.client.write("end\n");
    expect(await session.ended()).toEqual({ code: 0, signal: null });
  });

  test("on which a shell is interactive, with job control", async () => {
    await using session = await open(SELF, "sh", "-i");
    await session.shows("prompt> ");
    expect(session.text).toBe("prompt> ");
    session.client.write("sh -c 'echo sta''rted; exec sleep 1000'\n");
    await session.shows("started");
    session.client.write("\u0003");
    await session.shows("started\n^C");
    session.client.write("echo status $?\n");
    await session.shows("status 130");
    session.client.write("sh -c 'echo aga''in; exec sleep 1000'\n");
    await session.shows("again");
    session.client.write("\u001a");
    await session.shows("Stopped");
    session.client.write("kill %1; fg; echo ki''lled; exit 3\n");
    await session.shows("killed");
    expect(await session.ended()).toEqual({ code: 3, signal: null });
  });

  test.skipIf(!isRoot)("that belongs to the service's user, in a /dev of its own", async () => {
    await using session = await open(
      [...userOf(1000), "--confine"],
      "sh",
      "-c",
      "stat -c '%u %a' $(tty); ls /dev/pts | cat; id -u; grep CapEff /proc/self/status",
    );
    await session.ended();
    expect(session.text).toBe("1000 620\n0\nptmx\n1000\nCapEff:\t0000000000000000\n");
  });

  test("behind a relay that has the same identity, and the filter alone does not bind", async () => {
    const filter = join(workshop.directory, "allow.bpf");
    await writeFile(filter, ALLOW_ALL);
    const identity = isRoot ? userOf(1000) : SELF;
    await using session = await open([...identity, "--seccomp", filter], "sh", "-c", "echo here; read line");
    await session.shows("here");
    const pick = (text: string, pattern: RegExp): string => pattern.exec(text)?.[1] ?? "";
    const relay = await readFile(`/proc/${session.relay.pid}/status`, "utf8");
    const program = await readFile(`/proc/${await session.programPid()}/status`, "utf8");
    for (const pattern of [/^Uid:\t(.*)$/m, /^Gid:\t(.*)$/m, /^CapBnd:\t(.*)$/m, /^NoNewPrivs:\t(1)$/m])
      expect(pick(relay, pattern)).toBe(pick(program, pattern));
    expect([relay, program].map((text) => pick(text, /^Seccomp:\t(.)$/m))).toEqual(["0", "2"]);
    expect(pick(relay, /^CapEff:\t(.*)$/m)).toBe("0000000000000000");
  });
});

describe("the relay of a terminal carries", () => {
  test("any bytes both ways, more than anybody buffers", async () => {
    const size = 1 << 20;
    const bytes = randomBytes(size);
    await using session = await shell(`stty raw -echo; echo ready; head -c ${size}`);
    await session.shows("ready");
    session.client.write(bytes);
    expect(await session.ended()).toEqual({ code: 0, signal: null });
    await session.closed();
    expect(session.output.subarray(-size).equals(bytes)).toBe(true);
  });

  test("all of the output to a client that reads late", async () => {
    await using session = await shell("head -c 3000000 /dev/zero | tr '\\0' x; echo; echo last");
    session.client.pause();
    const program = await session.programPid();
    // Blocked on the terminal: nobody buffers that much.
    await until("the program waits", async () =>
      /^State:\tS/m.test(await readFile(`/proc/${program}/status`, "utf8")),
    );
    session.client.resume();
    await session.closed();
    expect(session.text.length).toBe(3_000_006);
    expect(session.text.endsWith("x\nlast\n")).toBe(true);
    expect(await session.ended()).toEqual({ code: 0, signal: null });
  });

  test("what the program wrote last, whoever still has the terminal open", async () => {
    await using session = await shell("trap '' HUP; sleep 1000 & echo $!; echo last; exit 4");
    expect(await session.ended()).toEqual({ code: 4, signal: null });
    await session.closed();
    const [pid = "", last] = session.text.split("\n");
    expect(last).toBe("last");
    process.kill(Number(pid), "SIGKILL");
  });

  test("the signals that it gets to the program", async () => {
    await using session = await shell(
      'for s in TERM INT HUP QUIT USR1 USR2 CONT; do trap "echo got $s" $s; done; echo ready; while :; do read line && exit 0; done',
    );
    await session.shows("ready");
    for (const name of ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "CONT"] as const) {
      session.relay.kill(`SIG${name}`);
      await session.shows(`got ${name}`);
    }
    session.client.write("\n");
    expect(await session.ended()).toEqual({ code: 0, signal: null });
  });

  test("stops and goes on with the program", async () => {
    await using session = await shell("echo ready; read line; echo got $line");
    await session.shows("ready");
    const program = await session.programPid();
    const isStopped = async (): Promise<boolean> =>
      /^State:\tT/m.test(await readFile(`/proc/${program}/status`, "utf8"));
    // The program leads an orphaned process group, in which the kernel ignores the stop signals of terminals.
    process.kill(Number(program), "SIGSTOP");
    await until("the program is stopped", isStopped);
    session.relay.kill("SIGCONT");
    await until("the program goes on", async () => !(await isStopped()));
    session.client.write("line\n");
    await session.shows("got line");
  });

  test("output after the client has ended its input", async () => {
    await using session = await shell(
      "trap 'echo told; exit 6' USR1; read line; echo got $line; while :; do sleep 0.01; done",
    );
    session.client.end("line\n");
    await session.shows("got line");
    session.relay.kill("SIGUSR1");
    await session.shows("told");
    expect(await session.ended()).toEqual({ code: 6, signal: null });
    await session.closed();
  });
});

describe("a session on a terminal ends", () => {
  test.each(["SIGSEGV", "SIGKILL", "SIGTERM", "SIGABRT", "SIGHUP"] as const)(
    "by %s as its program does",
    async (name) => {
      await using session = await shell(`ulimit -c 0; kill -${name.slice(3)} $$`);
      expect(await session.ended()).toEqual({ code: null, signal: name });
    },
  );

  test("by SIGHUP when the client is gone", async () => {
    await using session = await shell("echo ready; while :; do read line || exit 9; done");
    await session.shows("ready");
    session.client.destroy();
    expect(await session.ended()).toEqual({ code: null, signal: "SIGHUP" });
  });

  test("by SIGKILL when the client is gone and the program does not mind", async () => {
    await using session = await shell("trap '' HUP; echo ready; while :; do sleep 0.05; done");
    await session.shows("ready");
    const program = await session.programPid();
    session.client.destroy();
    expect(await session.ended()).toEqual({ code: null, signal: "SIGKILL" });
    expect(await isAlive(program)).toBe(false);
  });

  test("with the relay", async () => {
    await using session = await shell("trap '' HUP; echo ready; while :; do sleep 0.05; done");
    await session.shows("ready");
    const program = await session.programPid();
    session.relay.kill("SIGKILL");
    expect(await session.ended()).toEqual({ code: null, signal: "SIGKILL" });
    await expect.poll(() => isAlive(program), { timeout: 10_000 }).toBe(false);
  });

  test("before it began where there is no such program, and says so", async () => {
    await using session = await open(SELF, "/no/program");
    expect(await session.error).toBe("exec ENOENT /no/program: No such file or directory\n");
    expect(await session.ended()).toEqual({ code: 127, signal: null });
    await session.closed();
    expect(session.text).toBe("");
  });

  test("with the error pipe closed as soon as the program runs", async () => {
    await using session = await shell("read line");
    expect(await session.error).toBe("");
    expect(session.relay.exitCode).toBeNull();
    session.client.write("\n");
    expect(await session.ended()).toEqual({ code: 0, signal: null });
  });

  test("before it began where descriptor 0 is no connection", async () => {
    const { code, error } = await execute(workshop.serviceExec, [...SELF, "--tty", "--", "sleep", "1000"]);
    expect({ code, error }).toEqual({
      code: 126,
      error: "terminal ENOTSOCK descriptor 0: Socket operation on non-socket\n",
    });
  });
});
