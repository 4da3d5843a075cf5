import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { crc32 } from "node:zlib";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { AGENT_PORT } from "../fixtures/guest/agent-protocol.ts";
import { bootGuest, type Guest, textOf } from "../fixtures/guest/guest-bed.ts";

const PARENT = 3;
const HYPERVISOR_HOST = 2;
const LOCAL = 1;
const PORT = { echo: 6001, sink: 6002, source: 6003, silent: 6004 } as const;
const GIB = 2 ** 30;
const MIB = 2 ** 20;
/** The first build of a machine compiles a kernel. */
const FIRST_BOOT_MS = 2_400_000;
const LONG_MS = 600_000;

let guest: Guest;
const silent: Duplex[] = [];
let sunk: { bytes: number; crc: number } | undefined;

beforeAll(async () => {
  const program = join(import.meta.dirname, "..", "fixtures", "guest", "vsock-agent.ts");
  guest = await bootGuest({ program, memoryMib: 768, cpus: 2 });
  const { machine } = guest;
  const quiet = (stream: Duplex): Duplex => stream.on("error", () => undefined);
  await machine.onConnect(PORT.echo, (stream) => void quiet(stream).pipe(stream));
  await machine.onConnect(PORT.sink, (stream) => {
    const sink = async (): Promise<void> => {
      sunk = await drain(quiet(stream));
      stream.end();
    };
    void sink();
  });
  await machine.onConnect(PORT.source, (stream) => void send(quiet(stream), GIB, MIB));
  await machine.onConnect(PORT.silent, (stream) => void silent.push(quiet(stream)));
}, FIRST_BOOT_MS);
afterAll(async () => {
  await guest[Symbol.asyncDispose]();
});

async function drain(stream: Duplex): Promise<{ bytes: number; crc: number }> {
  let bytes = 0;
  let crc = 0;
  for await (const chunk of stream.iterator({ destroyOnReturn: false })) {
    if (!Buffer.isBuffer(chunk)) continue;
    bytes += chunk.length;
    crc = crc32(chunk, crc);
  }
  return { bytes, crc };
}

async function send(
  stream: Duplex,
  bytes: number,
  chunkBytes: number,
): Promise<{ bytes: number; crc: number }> {
  const block = Buffer.alloc(chunkBytes).map((_byte, index) => (index * 7) & 255);
  let crc = 0;
  for (let sent = 0; sent < bytes;) {
    const chunk = block.subarray(0, Math.min(chunkBytes, bytes - sent));
    crc = crc32(chunk, crc);
    sent += chunk.length;
    if (!stream.write(chunk)) await new Promise((resolve) => stream.once("drain", resolve));
  }
  stream.end();
  return { bytes, crc };
}

async function openDescriptors(): Promise<number> {
  return (await readdir("/proc/self/fd")).length;
}

describe.each([
  ["our device, as the parent", PARENT, PORT],
  ["our device, as the host", HYPERVISOR_HOST, PORT],
  ["vsock_loopback", LOCAL, AGENT_PORT],
] as const)("AF_VSOCK over %s", (_name, cid, port) => {
  test(
    "carries bytes both ways at once, whatever the size of the writes, and ends each way by itself",
    async () => {
      for (const chunkBytes of [1, 100, 4096, 65_535, 65_537, MIB]) {
        const bytes = chunkBytes === 1 ? 500 : 2 * MIB + 1;
        const answer = await guest.ask({ do: "exchange", cid, port: port.echo, bytes, chunkBytes });
        expect(answer).toMatchObject({ received: { bytes }, sent: { bytes } });
        const { received, sent } = Object(answer);
        expect(received.crc, `writes of ${chunkBytes}`).toBe(sent.crc);
      }
    },
    LONG_MS,
  );

  test("refuses a port on which nobody listens at once", async () => {
    const answer = Object(await guest.ask({ do: "connect", cid, port: 4999 }));
    expect(answer.result).toBe("ECONNRESET");
    expect(answer.ms).toBeLessThan(1_000);
  });

  test(
    "opens and closes connections, 64 at once, and leaks no descriptor",
    async () => {
      const answer = Object(
        await guest.ask({ do: "ping-many", cid, port: port.echo, count: 1_000, parallel: 64 }, LONG_MS),
      );
      expect(answer.results).toEqual({ ok: 1_000 });
      expect(answer.leaked).toBeLessThanOrEqual(2);
    },
    LONG_MS,
  );
});

describe("our device", () => {
  test(
    "carries a gibibyte to the host through one connection",
    async () => {
      const sent = await guest.ask(
        { do: "upload", cid: PARENT, port: PORT.sink, bytes: GIB, chunkBytes: MIB },
        LONG_MS,
      );
      await expect.poll(() => sunk, { timeout: LONG_MS }).toEqual(sent);
      expect(sent).toMatchObject({ bytes: GIB });
    },
    LONG_MS,
  );

  test(
    "carries a gibibyte to the guest through one connection",
    async () => {
      const stream = await guest.machine.connect(AGENT_PORT.sink, AbortSignal.timeout(10_000));
      const sent = await send(stream, GIB, MIB);
      expect(JSON.parse(await textOf(stream))).toEqual(sent);
    },
    LONG_MS,
  );

  test(
    "carries 64 connections at once, each its own bytes",
    async () => {
      const exchange = async (): Promise<void> => {
        const stream = await guest.machine.connect(AGENT_PORT.echo, AbortSignal.timeout(30_000));
        const [sent, received] = await Promise.all([send(stream, MIB, 40_000), drain(stream)]);
        expect(received.crc).toBe(sent.crc);
        expect(received.bytes).toBe(sent.bytes);
      };
      await Promise.all(Array.from({ length: 64 }, exchange));
    },
    LONG_MS,
  );

  test("refuses the host's connection to a port on which nobody listens", async () => {
    const start = performance.now();
    await expect(guest.machine.connect(4999, AbortSignal.timeout(10_000))).rejects.toMatchObject({
      code: "E_BACKEND_CONNECT",
    });
    expect(performance.now() - start).toBeLessThan(1_000);
  });

  test(
    "leaks nothing over 10,000 connections from the guest",
    async () => {
      const before = await openDescriptors();
      const answer = Object(
        await guest.ask(
          { do: "ping-many", cid: PARENT, port: PORT.echo, count: 10_000, parallel: 32 },
          LONG_MS,
        ),
      );
      expect(answer.results).toEqual({ ok: 10_000 });
      expect(answer.leaked).toBeLessThanOrEqual(2);
      expect((await openDescriptors()) - before).toBeLessThan(100);
    },
    LONG_MS,
  );

  test("tells the guest within a second that its peer is gone", async () => {
    const asked = guest.ask({ do: "await-end", cid: PARENT, port: PORT.silent });
    await expect.poll(() => silent.length, { timeout: 30_000 }).toBe(1);
    const [stream] = silent.splice(0);
    await new Promise((resolve) => stream?.once("data", resolve));
    const start = performance.now();
    stream?.destroy();
    expect(await asked).toMatchObject({ ms: expect.any(Number) });
    expect(performance.now() - start).toBeLessThan(1_000);
  });

  test("refuses a connection to a CID that is nobody's at once", async () => {
    const answer = Object(await guest.ask({ do: "connect", cid: 77, port: 1 }));
    expect(answer.result).toBe("ECONNRESET");
    expect(answer.ms).toBeLessThan(1_000);
  });

  test("a connection that is not answered in time is given up, and another one works", async () => {
    const asked = guest.ask({ do: "abort", cid: PARENT, port: PORT.echo, delayMs: 400, timeoutMs: 200 });
    // Sent, and then the device stands still: nothing but its own silence keeps the guest waiting.
    await delay(200);
    const end = performance.now() + 3_000;
    while (performance.now() < end);
    expect(Object(await asked).result).toBe("TimeoutError");
    expect(await guest.ask({ do: "connect", cid: PARENT, port: PORT.echo })).toMatchObject({ result: "ok" });
  });
});

describe("QEMU", () => {
  test("runs behind its own filter of system calls, and nobody else can connect to its device", async () => {
    const device = join(guest.vsockDirectory, "device.sock");
    const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
    const statuses = pids.map(async (pid) => {
      const words = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
      const isQemu = words.includes(device) && !words.includes("launcher");
      return isQemu ? await readFile(`/proc/${pid}/status`, "utf8") : "";
    });
    const found = (await Promise.all(statuses)).filter((status) => status !== "");
    expect(found).toHaveLength(1);
    expect(found[0]).toMatch(/^Seccomp:\t2$/m);
    expect((await stat(device)).mode & 0o777).toBe(0o600);
    expect((await stat(guest.vsockDirectory)).mode & 0o777).toBe(0o700);
  });
});

describe("the guest's end", () => {
  test(
    "is seen within a second by who holds a connection to it",
    async () => {
      const stream = await guest.machine.connect(AGENT_PORT.silent, AbortSignal.timeout(10_000));
      const closed = new Promise<void>((resolve) =>
        stream
          .on("error", () => undefined)
          .once("end", resolve)
          .once("close", resolve),
      );
      stream.resume();
      // Init ends the machine in order when its supervisor does; QEMU's end closes what is left.
      await guest.ask({ do: "exit" });
      const exit = await guest.machine.exited;
      const start = performance.now();
      await closed;
      expect(performance.now() - start).toBeLessThan(1_000);
      expect(exit).toMatchObject({ status: 0 });
      expect(guest.console()).toContain("init: end: poweroff");
    },
    LONG_MS,
  );
});
