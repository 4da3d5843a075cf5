import { access, mkdir, writeFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

import { KitError } from "../../../core/errors.ts";
import { holdMachineLock } from "../../../core/machine-lock.ts";
import type { Machine, MachineSocket } from "../../../host/backends/backend.ts";
import { terminateNamed } from "../../../host/backends/nitro/enclave-end.ts";
import { type NitroMachineOptions, openNitroMachine } from "../../../host/backends/nitro/nitro-machine.ts";
import { newLaunchName, type NitroPlan, planNitro } from "../../../host/backends/nitro/nitro-plan.ts";
import { VSOCK_PORT } from "../../../wire/ports.ts";
import { bytesOf, type NitroBed, openNitroBed, until } from "./nitro-bed.ts";

const MIB = 2 ** 20;

let bed: NitroBed;
let owned: AsyncDisposableStack;
beforeEach(async () => {
  owned = new AsyncDisposableStack();
  bed = owned.use(await openNitroBed());
});
afterEach(async () => await owned.disposeAsync());

const signal = AbortSignal.timeout(600_000);

interface Differences
  extends
    Partial<NitroPlan>,
    Pick<Partial<NitroMachineOptions>, "dialer" | "powerOff" | "times" | "vsockDirectory"> {}

/** Disposed of after the test, unless that is the test. */
async function open(more: Differences = {}): Promise<Machine> {
  return owned.use(await openUnowned(more));
}

async function openUnowned({
  dialer,
  powerOff,
  times,
  vsockDirectory,
  ...plan
}: Differences = {}): Promise<Machine> {
  return await openNitroMachine({
    plan: {
      program: join(bed.binFolder, "nitro-cli"),
      launchName: newLaunchName("signer"),
      mode: "development",
      eifPath: bed.eifPath,
      memoryBytes: 128 * MIB,
      cpus: 1,
      debug: false,
      ...plan,
    },
    dialer: dialer ?? bed.dialer,
    vsockDirectory: vsockDirectory ?? join(bed.folder, `vsock-${crypto.randomUUID().slice(0, 8)}`),
    powerOff,
    signal,
    root: bed.folder,
    pollMs: 20,
    times: { lockKey: bed.folder, quietMs: 0, launchMs: 20_000, ...times },
  });
}

async function refusal(act: Promise<unknown>): Promise<KitError> {
  const error: unknown = await act.then(
    () => undefined,
    (caught: unknown) => caught,
  );
  if (!(error instanceof KitError)) throw new Error(`expected a refusal, got ${String(error)}`);
  return error;
}

const callsOf = async (command: string): Promise<readonly string[]> =>
  (await bed.calls()).flatMap((call) => (call.words[0] === command ? call.phase : []));

describe("life", () => {
  test("starts an enclave, tells its limits, and dispose terminates it", async () => {
    const machine = await openUnowned({ cpus: 2 });
    expect(machine.limits).toEqual([
      { name: "memory", value: 128 * MIB, enforced: true, why: null },
      { name: "cpus", value: 2, enforced: true, why: null },
    ]);
    await machine.start(signal);
    expect(await bed.enclaves()).toMatchObject([{ MemoryMiB: 128, CPUIDs: [1, 2], Flags: "NONE" }]);
    expect((await bed.enclaves())[0]?.EnclaveName).toMatch(/^signer-[0-9a-f]{8}$/);
    await machine[Symbol.asyncDispose]();
    expect(await bed.enclaves()).toEqual([]);
    expect(await machine.exited).toEqual({ status: null, signal: "SIGKILL" });
  });

  test("a machine that was never started is closed without nitro-cli", async () => {
    await (await openUnowned())[Symbol.asyncDispose]();
    expect(await bed.calls()).toEqual([]);
  });

  test("starts once only", async () => {
    const machine = await open();
    await machine.start(signal);
    await expect(machine.start(signal)).rejects.toThrow(TypeError);
  });

  test("an enclave that ends by itself is seen", async () => {
    const machine = await open();
    await machine.start(signal);
    const [enclave] = await bed.enclaves();
    await bed.setState({ enclaves: [] });
    const { error, ...exit } = await machine.exited;
    expect(exit).toEqual({ status: 0, signal: null });
    expect(error).toMatchObject({
      code: "E_NITRO_ENDED",
      message: `enclave ${enclave?.EnclaveID} is no longer there`,
    });
    expect((await refusal(machine.connect(9001, signal))).code).toBe("E_BACKEND_CONNECT");
  });

  test("an enclave that is terminating has ended", async () => {
    const machine = await open();
    await machine.start(signal);
    const [enclave] = await bed.enclaves();
    await bed.setState({ enclaves: [{ ...enclave, State: "TERMINATING" }] });
    expect(await machine.exited).toMatchObject({ status: 0, signal: null });
  });

  test("a nitro-cli that does not answer for a while is no end", async () => {
    const machine = await open({ debug: true });
    await machine.start(signal);
    let console = "";
    machine.console.on("data", (chunk: Buffer) => (console += chunk.toString()));
    await bed.misbehave({ "describe-enclaves": { do: "refuse", code: "E39", times: 3 } });
    await until("it is said", async () => (console.includes("E39") ? true : undefined));
    const before = (await callsOf("describe-enclaves")).length;
    await until("it goes on", async () =>
      (await callsOf("describe-enclaves")).length > before + 8 ? true : undefined,
    );
    expect(console.match(/E39/g)).toHaveLength(1);
    expect(await bed.enclaves()).toHaveLength(1);
    await bed.setState({ enclaves: [] });
    expect((await machine.exited).status).toBe(0);
  });
});

describe("stop", () => {
  test("asks first, and terminates nothing that went by itself", async () => {
    const asked: number[] = [];
    const powerOff = async (): Promise<void> => {
      asked.push(1);
      await bed.setState({ enclaves: [] });
    };
    const machine = await open({ powerOff });
    await machine.start(signal);
    await machine.stop(10_000);
    expect(asked).toEqual([1]);
    expect(await machine.exited).toEqual({ status: 0, signal: null });
    expect(await callsOf("terminate-enclave")).toEqual([]);
  });

  test("terminates after the grace period, and at once without one", async () => {
    const powerOff = async (): Promise<void> => await Promise.resolve();
    for (const graceMs of [100, 0]) {
      const machine = await open({ powerOff });
      await machine.start(signal);
      await machine.stop(graceMs);
      expect(await machine.exited).toEqual({ status: null, signal: "SIGKILL" });
      expect(await bed.enclaves()).toEqual([]);
    }
  });

  test("asks until it is heard", async () => {
    let asked = 0;
    const powerOff = async (): Promise<void> => {
      asked += 1;
      if (asked < 3) throw new Error("nobody listens yet");
      await bed.setState({ enclaves: [] });
    };
    const machine = await open({ powerOff });
    await machine.start(signal);
    await machine.stop(60_000);
    expect(asked).toBe(3);
    expect(await machine.exited).toEqual({ status: 0, signal: null });
  });

  test("terminates when it is never heard, or cannot be asked at all", async () => {
    const deaf = async (): Promise<void> => await Promise.reject(new Error("nobody listens"));
    for (const powerOff of [deaf, undefined]) {
      const machine = await open({ powerOff });
      await machine.start(signal);
      await machine.stop(powerOff === undefined ? 600_000 : 300);
      expect((await machine.exited).signal).toBe("SIGKILL");
    }
  });

  test("a second stop without grace does not wait for the first", async () => {
    const machine = await open({ powerOff: async () => await Promise.resolve() });
    await machine.start(signal);
    const patient = machine.stop(600_000);
    await machine.stop(0);
    expect((await machine.exited).signal).toBe("SIGKILL");
    await patient;
  });

  test("is nothing before the start and after the end", async () => {
    const machine = await open();
    await machine.stop(0);
    await machine.start(signal);
    await machine.stop(0);
    await machine.stop(0);
    expect(await callsOf("terminate-enclave")).toEqual(["begin", "end"]);
  });

  test("in the middle of a launch gives it up and leaves no enclave", async () => {
    await bed.misbehave({ "run-enclave": { do: "late", ms: 300 } });
    const machine = await open({ times: { quietMs: 5_000 } });
    const starting = refusal(machine.start(signal));
    await until("it runs", async () => (await bed.calls())[0]);
    await machine.stop(10_000);
    expect((await starting).message).toBe("the enclave was stopped before it had started");
    expect(await bed.enclaves()).toEqual([]);
  });

  test("tries again when nitro-cli fails to terminate", async () => {
    const machine = await open();
    await machine.start(signal);
    await bed.misbehave({ "terminate-enclave": { do: "refuse", code: "E11", times: 2 } });
    await machine.stop(0);
    expect(await bed.enclaves()).toEqual([]);
  });

  test("an enclave that cannot be terminated is told, with the command", async () => {
    const machine = await openUnowned();
    await machine.start(signal);
    const [enclave] = await bed.enclaves();
    await bed.misbehave({ "terminate-enclave": { do: "refuse", code: "E38" } });
    const error = await refusal(Promise.resolve(machine[Symbol.asyncDispose]()));
    expect(error.code).toBe("E_NITRO_LEFT");
    expect(error.message).toContain(`nitro-cli terminate-enclave --enclave-id ${enclave?.EnclaveID}`);
    expect(error.message).toContain("E38");
  });

  test("whoever knows the launch name ends an enclave whose runner was killed", async () => {
    const launchName = newLaunchName("signer");
    await (await open({ launchName })).start(signal);
    await terminateNamed(bed.cli, newLaunchName("signer"), signal);
    expect(await bed.enclaves()).toHaveLength(1);
    await terminateNamed(bed.cli, launchName, signal);
    expect(await bed.enclaves()).toEqual([]);
  });
});

describe("launches", () => {
  test("are one at a time", async () => {
    await bed.misbehave({ "run-enclave": { do: "slow", ms: 150 } });
    await Promise.all([1, 2, 3].map(async () => (await open()).start(signal)));
    expect(await callsOf("run-enclave")).toEqual(["begin", "end", "begin", "end", "begin", "end"]);
    expect(await bed.enclaves()).toHaveLength(3);
  });

  test("one that waits too long for another is told so", async () => {
    await using _other = await holdMachineLock(bed.folder, 1_000);
    const error = await refusal((await open({ times: { lockMs: 100, lockKey: bed.folder } })).start(signal));
    expect(error.code).toBe("E_NITRO_BUSY");
    expect(await bed.calls()).toEqual([]);
  });

  test("one that waits for another can be given up", async () => {
    await using _other = await holdMachineLock(bed.folder, 1_000);
    const controller = new AbortController();
    const starting = (await open()).start(controller.signal);
    controller.abort(new KitError("E_CANCELLED", "enough"));
    expect((await refusal(starting)).message).toBe("enough");
  });

  test("that nitro-cli refuses leave nothing and let the next one begin", async () => {
    await bed.misbehave({ "run-enclave": { do: "refuse", code: "E36", times: 1 } });
    expect((await refusal((await open()).start(signal))).code).toBe("E_NITRO_BOOT");
    expect(await bed.enclaves()).toEqual([]);
    await (await open()).start(signal);
  });

  test("a refusal is told even if nitro-cli cannot list enclaves", async () => {
    const refuse = {
      do: "refuse",
      code: "E19",
      text: "File operation failure.\nFile: '/dev/nitro_enclaves'",
    };
    await bed.misbehave({ "run-enclave": refuse, "describe-enclaves": refuse });
    expect((await refusal((await open()).start(signal))).code).toBe("E_NITRO_ACCESS");
  });

  test("whose answer is not understood leave no enclave", async () => {
    await bed.misbehave({ "run-enclave": { do: "mumble" } });
    expect((await refusal((await open()).start(signal))).code).toBe("E_NITRO_OUTPUT");
    expect(await callsOf("terminate-enclave")).toEqual(["begin", "end"]);
    expect(await bed.enclaves()).toEqual([]);
  });

  test("whose nitro-cli is killed leave no enclave, though it appears later", async () => {
    await bed.misbehave({ "run-enclave": { do: "late", ms: 700 } });
    const starting = (await open({ times: { launchMs: 400, quietMs: 5_000 } })).start(signal);
    expect((await refusal(starting)).code).toBe("E_DEADLINE");
    expect(await callsOf("terminate-enclave")).toEqual(["begin", "end"]);
    expect(await bed.enclaves()).toEqual([]);
  });

  test("an abort in the middle leaves no enclave", async () => {
    await bed.misbehave({ "run-enclave": { do: "late", ms: 300 } });
    const controller = new AbortController();
    const starting = (await open({ times: { quietMs: 5_000 } })).start(controller.signal);
    await until("it runs", async () => (await bed.calls())[0]);
    controller.abort(new KitError("E_CANCELLED", "enough"));
    expect((await refusal(starting)).message).toBe("enough");
    expect(await bed.enclaves()).toEqual([]);
  });

  test("closing the machine in the middle leaves no enclave", async () => {
    await bed.misbehave({ "run-enclave": { do: "late", ms: 300 } });
    const machine = await openUnowned({ times: { quietMs: 5_000 } });
    const starting = refusal(machine.start(signal));
    await until("it runs", async () => (await bed.calls())[0]);
    await machine[Symbol.asyncDispose]();
    expect((await starting).code).toBe("E_CANCELLED");
    expect(await bed.enclaves()).toEqual([]);
  });

  test("an enclave that may run and cannot be listed is told", async () => {
    await bed.misbehave({
      "run-enclave": { do: "hang" },
      "describe-enclaves": { do: "refuse", code: "E39" },
    });
    const error = await refusal((await open({ times: { launchMs: 600 } })).start(signal));
    expect(error.code).toBe("E_NITRO_LEFT");
    expect(error.message).toMatch(/nitro-cli terminate-enclave --enclave-name signer-[0-9a-f]{8}$/);
  });

  test("a missing program or image is named, and nothing is waited for", async () => {
    const program = join(bed.folder, "none");
    expect((await refusal((await open({ program, times: { quietMs: 600_000 } })).start(signal))).code).toBe(
      "E_NITRO_MISSING",
    );
    expect((await refusal((await open({ eifPath: join(bed.folder, "no.eif") })).start(signal))).code).toBe(
      "E_EIF_FILE",
    );
  });
});

describe("resources", () => {
  test("memory below four times the image is refused with the number to set", async () => {
    const error = await refusal((await open({ memoryBytes: 64 * MIB })).start(signal));
    expect(error.code).toBe("E_NITRO_MEMORY");
    expect(error.hint).toContain("memory: 81MiB");
    expect(await bed.calls()).toEqual([]);
  });

  test("a CID that another enclave has is refused before the launch", async () => {
    await (await open({ cid: 20 })).start(signal);
    expect((await refusal((await open({ cid: 20 })).start(signal))).code).toBe("E_NITRO_CID");
    expect(await callsOf("run-enclave")).toHaveLength(2);
  });

  async function place(path: string, text: string): Promise<void> {
    await mkdir(dirname(join(bed.folder, path)), { recursive: true });
    await writeFile(join(bed.folder, path), text);
  }

  test("a NUMA node means CPUs of the pool there that nobody has", async () => {
    await bed.setState({ pool: [1, 2, 3, 8, 9] });
    await place("sys/module/nitro_enclaves/parameters/ne_cpus", "1-3,8-9\n");
    await place("sys/devices/system/node/node1/cpulist", "8-15\n");
    await (await open({ cpuIds: [8] })).start(signal);
    await (await open({ numaNode: 1 })).start(signal);
    expect((await bed.enclaves()).map((one) => one.CPUIDs)).toEqual([[8], [9]]);
    expect((await refusal((await open({ numaNode: 1 })).start(signal))).message).toContain(
      "the pool has 0 free there",
    );
    expect((await refusal((await open({ numaNode: 2 })).start(signal))).message).toContain("no NUMA node 2");
    expect((await refusal((await open({ numaNode: 1, cpuIds: [3] })).start(signal))).message).toContain(
      "CPU 3 ",
    );
  });
});

describe("connections", () => {
  test("reach the enclave by its CID, both ways", async () => {
    const machine = await open({ cid: 30 });
    await machine.start(signal);
    await bed.dialer.listenInside(30, 9001, (socket) => socket.pipe(socket));
    const socket = await machine.connect(9001, signal);
    socket.end("hello");
    expect(await bytesOf(socket)).toBe("hello");
    expect((await refusal(machine.connect(9002, signal))).code).toBe("E_BACKEND_CONNECT");
  });

  test("of tools of this host go through the socket in the state directory", async () => {
    const vsockDirectory = join(bed.folder, "tools");
    const machine = await open({ cid: 32, vsockDirectory });
    await machine.start(signal);
    await bed.dialer.listenInside(32, 9001, (socket) => socket.pipe(socket));
    const tool = connect(join(vsockDirectory, "vsock.sock"));
    tool.write("CONNECT 9001\nhello");
    await until("the echo", async () => {
      const chunk: unknown = tool.read();
      return String(chunk).endsWith("hello") ? true : undefined;
    });
    tool.destroy();
    await machine[Symbol.asyncDispose]();
    await expect(access(vsockDirectory)).rejects.toThrow(/ENOENT/);
  });

  test("are refused before the start", async () => {
    expect((await refusal((await open()).connect(9001, signal))).code).toBe("E_BACKEND_CONNECT");
  });

  test("that the caller gives up end with his reason", async () => {
    const machine = await open({
      dialer: { listen: bed.dialer.listen.bind(bed.dialer), connect: hangingConnect },
    });
    await machine.start(signal);
    expect((await refusal(machine.connect(9001, AbortSignal.timeout(50)))).code).toBe("E_DEADLINE");
  });

  test("from the enclave wait until its CID is known; those of others are closed", async () => {
    const machine = await open({ cid: 31 });
    const heard: MachineSocket[] = [];
    await machine.onConnect(VSOCK_PORT.initReport, (socket) => {
      heard.push(socket);
      socket.end("heard");
    });
    const early = await bed.dialer.arrive(31, VSOCK_PORT.initReport);
    const stranger = await bed.dialer.arrive(77, VSOCK_PORT.initReport);
    expect(heard).toEqual([]);
    await machine.start(signal);
    expect(await bytesOf(early)).toBe("heard");
    expect(await bytesOf(stranger)).toBe("");
    expect(await bytesOf(await bed.dialer.arrive(31, VSOCK_PORT.initReport))).toBe("heard");
    expect(await bytesOf(await bed.dialer.arrive(78, VSOCK_PORT.initReport))).toBe("");
    expect(heard).toHaveLength(2);
  });

  test("whose CID the dialer does not tell are heard", async () => {
    const machine = await open();
    await machine.onConnect(9003, (socket) => void socket.end("heard"));
    expect(await bytesOf(await bed.dialer.arrive(undefined, 9003))).toBe("heard");
  });

  test("of strangers do not pile up before the start", async () => {
    const machine = await openUnowned();
    await machine.onConnect(9003, () => undefined);
    const all = [];
    for (let count = 0; count < 70; count++) all.push(await bed.dialer.arrive(77, 9003));
    const closed = all.map(async (socket) => await bytesOf(socket));
    await Promise.race(closed);
    await machine[Symbol.asyncDispose]();
    expect(await Promise.all(closed)).toEqual(all.map(() => ""));
  });

  test("the heartbeat is left to nitro-cli", async () => {
    await (await open()).onConnect(VSOCK_PORT.heartbeat, () => undefined);
    await expect(bed.dialer.arrive(16, VSOCK_PORT.heartbeat)).rejects.toThrow(/ENOENT/);
  });

  test("a port that another program has is named", async () => {
    await (await open()).onConnect(9003, () => undefined);
    const error = await refusal((await open()).onConnect(9003, () => undefined));
    expect(error).toMatchObject({ code: "E_NITRO_PORT", message: "vsock port 9003 of this host is in use" });
  });
});

describe("console", () => {
  test("outside debug mode one line says that there is none", async () => {
    const machine = await open();
    await machine.start(signal);
    expect(await bytesOf(machine.console)).toBe("there is no console outside debug mode\n");
  });

  test("in debug mode it is followed, and ends with the enclave", async () => {
    const machine = await open({ debug: true });
    await machine.start(signal);
    const [enclave] = await bed.enclaves();
    expect(enclave?.Flags).toBe("DEBUG_MODE");
    let text = "";
    machine.console.on("data", (chunk: Buffer) => (text += chunk.toString()));
    const said = async (what: string): Promise<true> =>
      await until(what, async () => (text.includes(what) ? true : undefined));
    await said("connected");
    await writeFile(join(bed.folder, `console-${enclave?.EnclaveID}`), "Linux version 6.12\nready\n");
    await said("Linux version 6.12\nready\n");
    await bed.setState({ enclaves: [] });
    await until("its end", async () => (machine.console.readableEnded ? true : undefined));
    const { error } = await machine.exited;
    expect(error?.details["lastLines"]).toEqual(expect.arrayContaining(["Linux version 6.12", "ready"]));
  });

  test("it ends when the machine is closed, started or not", async () => {
    const machine = await openUnowned({ debug: true });
    await machine[Symbol.asyncDispose]();
    expect(await bytesOf(machine.console)).toBe("");
    const started = await openUnowned({ debug: true });
    await started.start(signal);
    const reading = bytesOf(started.console);
    await started[Symbol.asyncDispose]();
    await reading;
  });

  test("a production image is never started in debug mode", async () => {
    const error = await refusal(openUnowned({ mode: "production", debug: true }));
    expect(error.code).toBe("E_NITRO_DEBUG");
    await (await open({ mode: "production" })).start(signal);
  });
});

describe("plan", () => {
  const resources = { cpus: 2, cpuIds: [1, 2], memoryBytes: 128 * MIB };
  const asked = (mode: "development" | "production", more = {}): Parameters<typeof planNitro>[0] => ({
    spec: { mode, resources },
    name: "signer",
    eifPath: bed.eifPath,
    searchPath: `relative:${bed.binFolder}`,
    debug: false,
    ...more,
  });

  test("has all that the launch needs, as plain data", async () => {
    const plan = await planNitro(asked("production"));
    expect(JSON.parse(JSON.stringify(plan))).toEqual({
      program: join(bed.binFolder, "nitro-cli"),
      launchName: expect.stringMatching(/^signer-[0-9a-f]{8}$/),
      mode: "production",
      eifPath: bed.eifPath,
      debug: false,
      ...resources,
    });
  });

  test("refuses at once what would fail later", async () => {
    expect((await refusal(planNitro(asked("production", { debug: true })))).code).toBe("E_NITRO_DEBUG");
    expect((await refusal(planNitro(asked("development", { searchPath: "" })))).code).toBe("E_NITRO_MISSING");
    expect((await refusal(planNitro(asked("development", { eifPath: "/none" })))).code).toBe("E_EIF_FILE");
    const small = { mode: "development", resources: { cpus: 1, memoryBytes: 64 * MIB } };
    expect((await refusal(planNitro(asked("development", { spec: small })))).code).toBe("E_NITRO_MEMORY");
  });
});

async function hangingConnect(_cid: number, _port: number, dialing: AbortSignal): Promise<Socket> {
  const { promise, reject } = Promise.withResolvers<Socket>();
  dialing.addEventListener("abort", () => reject(dialing.reason), { once: true });
  return await promise;
}
