/** What becomes of a command when its client does something else than wait: leaves, hangs, hurries. */
import { once } from "node:events";
import { afterAll, beforeAll, expect, test } from "vitest";

import { MAX_SESSIONS } from "../../wire/session-frames.ts";
import { eventually } from "./eventually.ts";
import { create, open, RawSession, sh, startHead, untilGone } from "./raw-session.ts";
import { RunningSupervisor } from "./running-supervisor.ts";
import { enclaveConfig, shellService } from "./service-configs.ts";

const running: { enclave?: RunningSupervisor } = {};

function enclave(): RunningSupervisor {
  if (running.enclave === undefined) throw new Error("not started");
  return running.enclave;
}

beforeAll(async () => {
  running.enclave = await RunningSupervisor.startReady(
    enclaveConfig([shellService("web", "exec sleep 1000")]),
  );
});
afterAll(async () => {
  await running.enclave?.[Symbol.asyncDispose]();
});

test("bytes right behind the request are the command's input", async () => {
  const session = await RawSession.start(enclave(), { command: ["cat"] }, "early\n");
  session.socket.end("late\n");
  expect(await session.finish()).toMatchObject({ stdout: "early\nlate\n", exitCode: 0 });
});

test("a command that says and reads nothing is gone when its client is", async () => {
  const session = await RawSession.start(enclave(), sh("echo $$; exec sleep 1000"));
  const pid = await session.pid();
  session.socket.destroy();
  await untilGone(pid);
});

test("a command whose input was ended goes on, and is gone when its client is", async () => {
  const session = await RawSession.start(enclave(), sh("cat; echo $$; exec sleep 1000"));
  session.socket.end();
  const pid = await session.pid();
  expect((await session.status()).state).toBe("running");
  session.socket.destroy();
  await untilGone(pid);
});

test("a command that ignores the hang-up is killed", async () => {
  const session = await RawSession.start(enclave(), sh("trap '' HUP; echo $$; sleep 1000; sleep 1000"));
  const pid = await session.pid();
  session.socket.destroy();
  await untilGone(pid);
});

test("a command that closes its output goes on, and its stream ends when it does", async () => {
  const session = await RawSession.start(
    enclave(),
    sh("echo $$; exec >/dev/null 2>&1; trap 'exit 9' HUP; sleep 2 & wait; exit 5"),
  );
  expect(await session.finish()).toMatchObject({ exitCode: 5 });
});

test("the stream ends with the command, even where something that it left behind holds the output", async () => {
  const session = await RawSession.start(
    enclave(),
    sh("setsid sh -c 'echo $$; exec sleep 1000' & sleep 0.2; exit 3"),
  );
  const pid = await session.pid();
  try {
    expect(await session.finish()).toMatchObject({ exitCode: 3 });
  } finally {
    process.kill(pid, "SIGKILL");
  }
});

test("clients that leave while their command starts leave no session behind", async () => {
  for (let round = 0; round < MAX_SESSIONS; round += 1) {
    const id = await create(enclave(), { command: ["sleep", "1000"] });
    const socket = open(enclave());
    socket.write(startHead(id), () => setTimeout(() => socket.destroy(), round % 8));
    await once(socket, "close");
  }
  const free = await eventually("room for all sessions again", async () => {
    const ids: number[] = [];
    while (ids.length < MAX_SESSIONS) {
      const id = await create(enclave(), { command: ["true"] }).catch(() => undefined);
      if (id === undefined) break;
      ids.push(id);
    }
    return ids.length === MAX_SESSIONS ? ids : undefined;
  });
  expect(free).toHaveLength(MAX_SESSIONS);
}, 40_000);
