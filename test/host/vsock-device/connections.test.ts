import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import type { Duplex } from "node:stream";
import { describe, expect, test } from "vitest";

import {
  SHUTDOWN_BOTH,
  SHUTDOWN_RECEIVE,
  SHUTDOWN_SEND,
  VSOCK_OP,
} from "../../../wire/virtio-vsock/vsock-header.ts";
import { eventually } from "../../enclave/eventually.ts";
import { openGuestBed } from "../../fixtures/host/vsock-device/device-bed.ts";
import { GuestStreams } from "../../fixtures/host/vsock-device/guest-stream.ts";
import { GUEST_CID } from "../../fixtures/host/vsock-device/hand-driven-guest.ts";

const signal = (): AbortSignal => AbortSignal.timeout(20_000);

function digest(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Everything until the end; the stream stays open for writing, which a consumer of Node would not leave it. */
async function readAll(socket: Duplex): Promise<Buffer> {
  const chunks: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => chunks.push(chunk));
  await once(socket, "end");
  return Buffer.concat(chunks);
}

/** Sockets of a port in the order of their arrival. */
function collect(): { readonly sockets: Duplex[]; readonly handler: (socket: Duplex) => void } {
  const sockets: Duplex[] = [];
  return { sockets, handler: (socket) => void sockets.push(socket.on("error", () => undefined)) };
}

const RINGS = [
  { hasEventIndex: false, rxBufferBytes: 4096, ringSize: 128 },
  { hasEventIndex: true, rxBufferBytes: 65_536, ringSize: 128 },
  { hasEventIndex: true, rxBufferBytes: 100, ringSize: 4 },
] as const;

describe.each(RINGS)("a guest whose rings are %o", (rings) => {
  test("reaches a handler on CID 2 and on CID 3, with data both ways and a half-close both ways", async () => {
    await using bed = await openGuestBed(rings);
    const { device, guest } = bed;
    const streams = new GuestStreams(guest);
    device.onConnect(9000, (socket) => {
      void readAll(socket).then((bytes) => socket.end(bytes.toReversed()));
    });
    for (const hostCid of [2, 3]) {
      const sent = randomBytes(1_500_000);
      const stream = await streams.connect({ hostPort: 9000, guestPort: 40_000, hostCid });
      expect(stream.isOpen).toBe(true);
      await stream.write(sent);
      stream.send(VSOCK_OP.shutdown, SHUTDOWN_SEND);
      await guest.until(() => stream.hostShutdown === SHUTDOWN_BOTH);
      expect(digest(Buffer.concat(stream.received))).toBe(digest(sent.toReversed()));
      stream.send(VSOCK_OP.reset);
      await eventually("the connection is gone", () => device.stats().connections === 0);
    }
    expect(bed.faults).toEqual([]);
  });

  test("is reached on a port where it listens", async () => {
    await using bed = await openGuestBed(rings);
    const { device, guest } = bed;
    const connecting = device.connect(5000, signal());
    const request = await guest.next();
    expect(request).toMatchObject({
      operation: VSOCK_OP.request,
      sourceCid: 2,
      destinationCid: GUEST_CID,
      destinationPort: 5000,
    });
    expect(request.sourcePort).toBeGreaterThanOrEqual(1024);
    const streams = new GuestStreams(guest);
    const stream = streams.add({ hostPort: request.sourcePort, guestPort: 5000 });
    stream.receive(request);
    stream.send(VSOCK_OP.response);
    await using socket = await connecting;
    const sent = randomBytes(700_000);
    socket.end(sent);
    await guest.until(() => stream.hostShutdown === SHUTDOWN_SEND);
    expect(digest(Buffer.concat(stream.received))).toBe(digest(sent));
    const reading = readAll(socket);
    await stream.write(sent);
    stream.send(VSOCK_OP.shutdown, SHUTDOWN_SEND);
    expect(digest(await reading)).toBe(digest(sent));
  });
});

describe("a request", () => {
  test("for a port without a handler, a CID that is not the host or another type gets RST at once", async () => {
    await using bed = await openGuestBed();
    const { device, guest } = bed;
    device.onConnect(9000, () => expect.unreachable());
    const operation = VSOCK_OP.request;
    const refused = [
      { sourcePort: 1, destinationPort: 1 },
      { sourcePort: 2, destinationPort: 9000, destinationCid: 99 },
      { sourcePort: 3, destinationPort: 9000, type: 2 },
      { sourcePort: 4, destinationPort: 9000, destinationCid: 2 + 2 ** 32 },
    ];
    for (const fields of refused) {
      guest.send({ operation, ...fields });
      expect(await guest.next()).toMatchObject({
        operation: VSOCK_OP.reset,
        sourceCid: fields.destinationCid ?? 2,
        sourcePort: fields.destinationPort,
        destinationPort: fields.sourcePort,
        type: fields.type ?? 1,
      });
    }
    expect(device.stats()).toMatchObject({ refused: 1, unknown: 3, connections: 0 });
  });

  test("of a forged source is dropped and counted", async () => {
    await using bed = await openGuestBed();
    const { device, guest } = bed;
    device.onConnect(9000, () => expect.unreachable());
    for (const sourceCid of [2, 17, GUEST_CID + 2 ** 32, 0])
      guest.send({ operation: VSOCK_OP.request, destinationPort: 9000, sourceCid });
    // An answer to a later packet shows that none of the others was answered.
    guest.send({ operation: VSOCK_OP.data, destinationPort: 1, sourcePort: 77 });
    expect(await guest.next()).toMatchObject({ operation: VSOCK_OP.reset, destinationPort: 77 });
    expect(device.stats()).toMatchObject({ malformed: 4, connections: 0 });
  });

  test("that comes again before any data is answered again, and later resets the connection", async () => {
    await using bed = await openGuestBed();
    const { device, guest } = bed;
    const { sockets, handler } = collect();
    device.onConnect(9000, handler);
    const ports = { destinationPort: 9000, sourcePort: 5 };
    for (let count = 0; count < 3; count += 1) {
      guest.send({ operation: VSOCK_OP.request, ...ports });
      expect(await guest.next()).toMatchObject({ operation: VSOCK_OP.response, destinationPort: 5 });
    }
    await eventually("the handler is called", () => sockets.length > 0);
    expect(sockets).toHaveLength(1);
    const failed = once(sockets[0] as Duplex, "error");
    guest.send({ operation: VSOCK_OP.data, ...ports }, Buffer.from("x"));
    guest.send({ operation: VSOCK_OP.request, ...ports });
    expect(await guest.next()).toMatchObject({ operation: VSOCK_OP.reset, destinationPort: 5 });
    expect(await failed).toMatchObject([{ code: "ECONNRESET" }]);
    guest.send({ operation: VSOCK_OP.request, ...ports });
    expect(await guest.next()).toMatchObject({ operation: VSOCK_OP.response, destinationPort: 5 });
  });

  test("of the host that the guest refuses fails with E_BACKEND_CONNECT", async () => {
    await using bed = await openGuestBed();
    const { device, guest } = bed;
    const connecting = device.connect(5000, signal());
    const { sourcePort } = await guest.next();
    guest.send({ operation: VSOCK_OP.reset, sourcePort: 5000, destinationPort: sourcePort });
    await expect(connecting).rejects.toMatchObject({ code: "E_BACKEND_CONNECT" });
    expect(device.stats().connections).toBe(0);
  });

  test("of the host that is given up is reset, and never open afterwards", async () => {
    await using bed = await openGuestBed();
    const { device, guest } = bed;
    const giveUp = new AbortController();
    const connecting = device.connect(5000, giveUp.signal);
    const { sourcePort } = await guest.next();
    giveUp.abort(new Error("enough"));
    await expect(connecting).rejects.toThrow("enough");
    guest.send({ operation: VSOCK_OP.response, sourcePort: 5000, destinationPort: sourcePort });
    expect(await guest.next()).toMatchObject({ operation: VSOCK_OP.reset, sourcePort });
    await eventually("the connection is gone", () => device.stats().connections === 0);
  });

  test("of the host fails at once while there is no driver", async () => {
    await using bed = await openGuestBed();
    bed.guest.frontEnd[Symbol.dispose]();
    await eventually("the front end is gone", async () =>
      bed.device.connect(5000, AbortSignal.abort(new Error("there still"))).then(
        () => false,
        (error: unknown) => (error as { code?: string }).code === "E_BACKEND_CONNECT",
      ),
    );
  });

  test("beyond the number of connections that a guest may have gets RST", async () => {
    await using bed = await openGuestBed();
    const { device, guest } = bed;
    const sockets = new Set<Duplex>();
    device.onConnect(9000, (socket) => void sockets.add(socket));
    let [open, refused] = [0, 0];
    guest.onPacket = ({ operation }) => {
      if (operation === VSOCK_OP.response) open += 1;
      if (operation === VSOCK_OP.reset) refused += 1;
    };
    for (let port = 1; port <= 8200; port += 1)
      while (!guest.send({ operation: VSOCK_OP.request, sourcePort: port, destinationPort: 9000 }))
        await guest.until(() => guest.tx.freeDescriptors >= 2);
    await guest.until(() => open + refused === 8200);
    expect({ open, refused }).toEqual({ open: 8192, refused: 8 });
    expect(device.stats()).toMatchObject({ connections: 8192, refused: 8 });
    for (const socket of sockets) socket.on("error", () => undefined);
  });
});

describe("a packet for no connection", () => {
  test("gets RST, unless it is one", async () => {
    await using bed = await openGuestBed();
    const { guest } = bed;
    for (const operation of [0, 2, 4, 5, 6, 7, 8, 999]) {
      guest.send({ operation: VSOCK_OP.reset, sourcePort: 1, destinationPort: 1 });
      guest.send({ operation, sourcePort: operation, destinationPort: 1 });
      expect(await guest.next()).toMatchObject({ operation: VSOCK_OP.reset, destinationPort: operation });
    }
    expect(guest.pending).toEqual([]);
  });
});

describe("the end of a connection", () => {
  test("by the guest in both directions is answered with RST once everything is read", async () => {
    await using bed = await openGuestBed();
    const { device, guest } = bed;
    const { sockets, handler } = collect();
    device.onConnect(9000, handler);
    const streams = new GuestStreams(guest);
    const stream = await streams.connect({ hostPort: 9000, guestPort: 1 });
    await stream.write(randomBytes(200_000));
    stream.send(VSOCK_OP.shutdown, SHUTDOWN_BOTH);
    const stray = await streams.connect({ hostPort: 1, guestPort: 2 });
    expect([stray.isReset, stream.isReset]).toEqual([true, false]);
    const [socket] = sockets as [Duplex];
    expect(await readAll(socket)).toHaveLength(200_000);
    await guest.until(() => stream.isReset);
    const failed = once(socket, "error");
    socket.write("too late");
    expect(await failed).toMatchObject([{ code: "EPIPE" }]);
  });

  test("by the guest in both directions makes an empty write fail, as relays ask", async () => {
    await using bed = await openGuestBed();
    const { device, guest } = bed;
    const { sockets, handler } = collect();
    device.onConnect(9000, handler);
    const stream = await new GuestStreams(guest).connect({ hostPort: 9000, guestPort: 1 });
    const [socket] = sockets as [Duplex];
    const write = async (): Promise<string> =>
      await new Promise((resolve) => {
        socket.write(new Uint8Array(0), (error) => resolve(error?.message ?? "fine"));
      });
    socket.on("error", () => undefined).resume();
    expect(await write()).toBe("fine");
    const ended = once(socket, "end");
    stream.send(VSOCK_OP.shutdown, SHUTDOWN_BOTH);
    await ended;
    expect(await write()).toBe("write EPIPE");
  });

  test("by a RST of the guest is an error, and a close without one where both had ended", async () => {
    await using bed = await openGuestBed();
    const { device, guest } = bed;
    const { sockets, handler } = collect();
    device.onConnect(9000, handler);
    const streams = new GuestStreams(guest);
    const first = await streams.connect({ hostPort: 9000, guestPort: 1 });
    const failed = once(sockets[0] as Duplex, "error");
    first.send(VSOCK_OP.reset);
    expect(await failed).toMatchObject([{ code: "ECONNRESET", syscall: "read" }]);
    const second = await streams.connect({ hostPort: 9000, guestPort: 1 });
    const closed = once(sockets[1] as Duplex, "close");
    sockets[1]?.resume().end();
    second.send(VSOCK_OP.shutdown, SHUTDOWN_SEND);
    await guest.until(() => second.hostShutdown !== 0);
    second.send(VSOCK_OP.reset);
    await closed;
    await eventually("the connection is gone", () => device.stats().connections === 0);
  });

  test("by the host before it had ended is a RST behind what it wrote", async () => {
    await using bed = await openGuestBed();
    const { device, guest } = bed;
    device.onConnect(9000, (socket) => {
      socket.write("last words", () => socket.destroy());
    });
    const stream = await new GuestStreams(guest).connect({ hostPort: 9000, guestPort: 1 });
    await guest.until(() => stream.isReset);
    expect(Buffer.concat(stream.received).toString()).toBe("last words");
    expect(device.stats().connections).toBe(0);
  });

  test("by resetAndDestroy is a RST", async () => {
    await using bed = await openGuestBed();
    const { device, guest } = bed;
    device.onConnect(9000, (socket) => void socket.resetAndDestroy());
    const stream = await new GuestStreams(guest).connect({ hostPort: 9000, guestPort: 1 });
    await guest.until(() => stream.isReset);
  });

  test("of the guest's receiving alone fails what is still to be written", async () => {
    await using bed = await openGuestBed();
    const { device, guest } = bed;
    const { sockets, handler } = collect();
    device.onConnect(9000, handler);
    const stream = await new GuestStreams(guest).connect({ hostPort: 9000, guestPort: 1 });
    stream.isReading = false;
    const [socket] = sockets as [Duplex];
    const failed = once(socket, "error");
    socket.write(randomBytes(300_000));
    await guest.until(() => stream.receivedBytes === 262_144);
    stream.send(VSOCK_OP.shutdown, SHUTDOWN_RECEIVE);
    expect(await failed).toMatchObject([{ code: "EPIPE" }]);
    await guest.until(() => stream.isReset);
  });
});

describe("credit", () => {
  test("of the guest bounds what the host sends, until more is given", async () => {
    await using bed = await openGuestBed();
    const { device, guest } = bed;
    const { sockets, handler } = collect();
    device.onConnect(9000, handler);
    const streams = new GuestStreams(guest);
    const stream = await streams.connect({ hostPort: 9000, guestPort: 1 });
    stream.isReading = false;
    const sent = randomBytes(600_000);
    const [socket] = sockets as [Duplex];
    socket.end(sent);
    await guest.until(() => stream.receivedBytes === 262_144);
    await streams.connect({ hostPort: 1, guestPort: 2 });
    expect(stream.receivedBytes).toBe(262_144);
    stream.isReading = true;
    stream.read();
    await guest.until(() => stream.hostShutdown === SHUTDOWN_SEND);
    expect(digest(Buffer.concat(stream.received))).toBe(digest(sent));
  });

  test("of the host comes back only as the host reads", async () => {
    await using bed = await openGuestBed();
    const { device, guest } = bed;
    const { sockets, handler } = collect();
    device.onConnect(9000, handler);
    const streams = new GuestStreams(guest);
    const stream = await streams.connect({ hostPort: 9000, guestPort: 1 });
    expect(stream.credit).toBe(262_144);
    const sent = randomBytes(500_000);
    const writing = stream.write(sent);
    await guest.until(() => stream.credit === 0);
    stream.send(VSOCK_OP.creditRequest);
    await streams.connect({ hostPort: 1, guestPort: 2 });
    expect(stream.credit).toBe(0);
    const chunks: Buffer[] = [];
    (sockets[0] as Duplex).on("data", (chunk: Buffer) => chunks.push(chunk));
    await writing;
    await eventually("everything is read", () => Buffer.concat(chunks).length === sent.length);
    expect(digest(Buffer.concat(chunks))).toBe(digest(sent));
  });

  test("that the guest exceeds costs it the connection, and no other", async () => {
    await using bed = await openGuestBed();
    const { device, guest } = bed;
    const { sockets, handler } = collect();
    device.onConnect(9000, handler);
    const streams = new GuestStreams(guest);
    const honest = await streams.connect({ hostPort: 9000, guestPort: 1 });
    const greedy = await streams.connect({ hostPort: 9000, guestPort: 2 });
    const failed = once(sockets[1] as Duplex, "error");
    for (let count = 0; count < 5 && !greedy.isReset; count += 1) {
      greedy.sendData(Buffer.alloc(65_536));
      await guest.until(() => guest.tx.freeDescriptors === guest.tx.size);
    }
    await guest.until(() => greedy.isReset);
    expect(await failed).toMatchObject([{ code: "ECONNRESET" }]);
    await honest.write(Buffer.from("still here"));
    expect(String(await once(sockets[0] as Duplex, "data"))).toBe("still here");
  });

  test("of nonsense stops nobody but its connection", async () => {
    await using bed = await openGuestBed();
    const { device, guest } = bed;
    device.onConnect(9000, (socket) => void socket.on("error", () => undefined).end("data"));
    const ports = { destinationPort: 9000, sourcePort: 1 };
    guest.send({ operation: VSOCK_OP.request, ...ports, bufferSpace: 0, consumed: 5 });
    expect(await guest.next()).toMatchObject({ operation: VSOCK_OP.response });
    guest.send({
      operation: VSOCK_OP.creditUpdate,
      ...ports,
      bufferSpace: 0xff_ff_ff_ff,
      consumed: 0xff_ff_ff_f0,
    });
    expect(await guest.next()).toMatchObject({ operation: VSOCK_OP.data, sizeBytes: 4 });
  });
});

describe("garbage on a healthy ring", () => {
  test.each([
    ["more bytes announced than there are", { operation: VSOCK_OP.data, sizeBytes: 1000 }],
    ["an operation that does not exist", { operation: 99 }],
    ["an answer to a request of its own", { operation: VSOCK_OP.response }],
  ])("%s: RST for that connection, and the next one works", async (_, fields) => {
    await using bed = await openGuestBed();
    const { device, guest } = bed;
    device.onConnect(9000, (socket) => void socket.on("error", () => undefined));
    const ports = { destinationPort: 9000, sourcePort: 1 };
    guest.send({ operation: VSOCK_OP.request, ...ports });
    expect(await guest.next()).toMatchObject({ operation: VSOCK_OP.response });
    guest.send({ ...fields, ...ports }, Buffer.from("abc"));
    expect(await guest.next()).toMatchObject({ operation: VSOCK_OP.reset, destinationPort: 1 });
    guest.send({ operation: VSOCK_OP.request, ...ports });
    expect(await guest.next()).toMatchObject({ operation: VSOCK_OP.response });
    expect(bed.faults).toEqual([]);
  });

  test("data after its end: RST", async () => {
    await using bed = await openGuestBed();
    const { device, guest } = bed;
    device.onConnect(9000, (socket) => void socket.on("error", () => undefined));
    const stream = await new GuestStreams(guest).connect({ hostPort: 9000, guestPort: 1 });
    stream.send(VSOCK_OP.shutdown, SHUTDOWN_SEND);
    stream.sendData(Buffer.from("x"));
    await guest.until(() => stream.isReset);
  });
});
