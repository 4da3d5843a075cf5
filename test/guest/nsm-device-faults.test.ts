import { randomBytes } from "node:crypto";

import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";

import { NSM_GROUP, RUNTIME } from "../../wire/runtime-layout.ts";
import { eventually } from "../enclave/eventually.ts";
import { CALLER, ERRNO, GET_RANDOM, NsmBed, readLines, SERVICE_ID } from "../fixtures/guest/nsm-bed.ts";
import { type Behaviour, frame } from "../fixtures/guest/nsm-host.ts";

/** The first build of a machine compiles a kernel. */
const FIRST_BOOT_MS = 2_400_000;
const LONG_MS = 240_000;

let bed: NsmBed;
beforeAll(async () => {
  bed = await NsmBed.open();
}, FIRST_BOOT_MS);
afterEach(() => {
  bed.host.behaviour = bed.answer;
});
afterAll(async () => {
  await bed[Symbol.asyncDispose]();
});

describe("callers that are killed", () => {
  test("end at once, also while the host is silent, and the others are served afterwards", async () => {
    const release = Promise.withResolvers<void>();
    const asked = bed.host.requests.length;
    bed.host.behaviour = async (request, socket) => {
      await release.promise;
      await bed.answer(request, socket);
    };
    for (const [index, name] of ["active", "queued", "patient"].entries()) {
      await bed.startCaller(name, GET_RANDOM);
      await eventually(name, async () => (await bed.guest.ask({ do: "count-waiting" })) === index + 1);
      await eventually("the first request", () => bed.host.requests.length === asked + 1);
    }
    expect(await bed.endCaller({ name: "queued", signal: "SIGKILL" })).toMatchObject({ signal: "SIGKILL" });
    expect(await bed.endCaller({ name: "active", signal: "SIGTERM" })).toMatchObject({ signal: "SIGTERM" });
    expect(bed.host.requests.length).toBe(asked + 1);
    release.resolve();
    expect((await bed.endCaller({ name: "patient" })).stdout).toMatch(/Asked ok /);
  });
});

test("more callers than the device's program holds are killed as fast, while the host is silent", async () => {
  const { host, guest, answer } = bed;
  const release = Promise.withResolvers<void>();
  const asked = host.requests.length;
  host.behaviour = async (request, socket) => {
    await release.promise;
    await answer(request, socket);
  };
  await bed.startCaller("crowd", "crowd", "200");
  await eventually("the crowd", async () => Number(await guest.ask({ do: "count-waiting" })) >= 200);
  expect(await bed.endCaller({ name: "crowd", signal: "SIGKILL" })).toMatchObject({ signal: "SIGKILL" });
  expect(host.requests.length).toBe(asked + 1);
  release.resolve();
  expect(await bed.asked()).toMatch(/^ok /);
  expect(host.requests.length).toBe(asked + 2);
});

describe("a host that misbehaves", () => {
  const BAD: readonly (readonly [string, Behaviour])[] = [
    ["ends in the middle of an answer", (_request, socket) => void socket.end(frame(Buffer.alloc(9), 280))],
    ["ends instead of an answer", (_request, socket) => void socket.destroy()],
    ["ends in the middle of a length", (_request, socket) => void socket.end(Buffer.alloc(3))],
    [
      "announces more than an answer may have",
      (_request, socket) => void socket.write(frame(Buffer.of(), 0x3001)),
    ],
    ["announces four gigabytes", (_request, socket) => void socket.write(frame(Buffer.of(), 0xffff_ffff))],
    ["answers with nothing", (_request, socket) => void socket.write(frame(Buffer.of()))],
  ];
  test.each(BAD)(
    "that %s gives the caller an I/O error, and the next one an answer",
    async (_name, behave) => {
      bed.host.behaviour = behave;
      expect(await bed.asked()).toBe(`errno ${ERRNO.EIO}`);
      bed.host.behaviour = bed.answer;
      expect(await bed.asked()).toMatch(/^ok /);
    },
  );

  test("that says more than it was asked loses the connection, and the next answer is the right one", async () => {
    bed.host.behaviour = async (request, socket) => {
      await bed.answer(request, socket);
      socket.write(frame(Buffer.from("not asked for")));
    };
    const { connections } = bed.host;
    expect(await bed.asked()).toMatch(/^ok /);
    bed.host.behaviour = bed.answer;
    await eventually("another connection", async () => {
      const asked = (await bed.asked()) ?? "";
      return asked.includes(Buffer.from("GetRandom").toString("hex")) && bed.host.connections > connections;
    });
  });

  test("that hangs up between two requests is not noticed", async () => {
    await bed.call(GET_RANDOM);
    const { connections } = bed.host;
    bed.host.hangUp();
    expect(await bed.asked()).toMatch(/^ok /);
    expect(bed.host.connections).toBe(connections + 1);
  });

  test("that answers the largest response, byte by byte, is understood", async () => {
    const body = randomBytes(0x3000);
    bed.host.behaviour = (_request, socket) => {
      for (const part of [frame(body).subarray(0, 1), frame(body).subarray(1, 5), frame(body).subarray(5)])
        socket.write(part);
    };
    expect(await bed.asked()).toBe(`ok ${body.length} ${body.toString("hex")}`);
  });

  test(
    "that answers garbage harms nobody",
    async () => {
      for (let turn = 0; turn < 30; turn += 1) {
        bed.host.behaviour = (_request, socket) => void socket.end(randomBytes(1 + turn * 7));
        expect(await bed.asked()).toMatch(/^(errno 5|ok )/);
      }
      bed.host.behaviour = bed.answer;
      expect(await bed.asked()).toMatch(/^ok /);
    },
    LONG_MS,
  );

  test("that is silent, or drips, makes the request time out", async () => {
    await bed.endDevice("SIGTERM");
    await bed.startDevice(300);
    bed.host.behaviour = () => undefined;
    expect(await bed.asked()).toBe(`errno ${ERRNO.ETIMEDOUT}`);
    bed.host.behaviour = (_request, socket) => {
      socket.write(frame(Buffer.of(), 0x3000));
      const timer = setInterval(() => socket.write(Buffer.of(1)), 20);
      socket.once("close", () => clearInterval(timer));
    };
    expect(await bed.asked()).toBe(`errno ${ERRNO.ETIMEDOUT}`);
    bed.host.behaviour = bed.answer;
    expect(await bed.asked()).toMatch(/^ok /);
    expect((await bed.endDevice("SIGTERM")).stderr).toBe(
      "nsm-device: the host's NSM does not answer: ETIMEDOUT\n",
    );
    await bed.startDevice();
  });
});

describe("a device that is started again", () => {
  test("is the same node for a service that runs all the time", async () => {
    const service = ["--uid", "1000", "--gid", "1000", "--groups", String(NSM_GROUP), "--cwd", "/"];
    const command = [RUNTIME.serviceExec, ...service, "--confine", "--nsm", "--", CALLER, "hold"];
    await bed.guest.ask({ do: "start", name: "held", command, uid: 0, gid: 0 });
    await bed.endDevice("SIGKILL");
    expect(await bed.run([CALLER, GET_RANDOM], SERVICE_ID, NSM_GROUP)).toMatchObject({
      stdout: `open errno ${ERRNO.ENODEV}\n`,
    });
    await bed.startDevice();
    const printed = readLines((await bed.endCaller({ name: "held", signal: "SIGUSR1" })).stdout);
    expect(printed.get("Before")).toMatch(/^ok /);
    expect(printed.get("Held")).toMatch(/^errno /);
    expect(printed.get("Reopened")).toMatch(/^ok /);
  });

  test("is refused beside one that runs", async () => {
    expect(await bed.startInVain()).toMatchObject({
      status: 1,
      stderr: "nsm-device: CUSE: ENODEV\n",
    });
    expect(await bed.asked()).toMatch(/^ok /);
  });
});
