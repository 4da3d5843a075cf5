import { describe, expect, test } from "vitest";

import { VSOCK_OP } from "../../../wire/virtio-vsock/vsock-header.ts";
import { eventually } from "../../enclave/eventually.ts";
import { openGuestBed } from "../../fixtures/host/vsock-device/device-bed.ts";
import {
  HIGH_GUEST_ADDRESS,
  type HandDrivenGuest,
  RX,
  TX,
} from "../../fixtures/host/vsock-device/hand-driven-guest.ts";

const HEADER = { address: HIGH_GUEST_ADDRESS, sizeBytes: 44, isWritable: false };

/** What a guest writes into its sending ring before it kicks. */
type Attack = (guest: HandDrivenGuest) => void;

function offerDescriptor(address: number | bigint, sizeBytes: number, flags = 0): Attack {
  return ({ tx }) => {
    tx.descriptors.setBigUint64(0, BigInt(address), true);
    tx.descriptors.setUint32(8, sizeBytes, true);
    tx.descriptors.setUint16(12, flags, true);
    tx.offer(0);
  };
}

const ATTACKS: readonly [string, Attack, string][] = [
  [
    "a chain that loops",
    ({ tx }) => {
      tx.writeDescriptor(0, HEADER, 1);
      tx.writeDescriptor(1, HEADER, 0);
      tx.offer(0);
    },
    "more than the 128 descriptors",
  ],
  [
    "a descriptor that is its own next",
    ({ tx }) => {
      tx.writeDescriptor(5, HEADER, 5);
      tx.offer(5);
    },
    "more than the 128 descriptors",
  ],
  ["a head outside of the table", ({ tx }) => tx.offer(128), "descriptor 128 of 128"],
  [
    "a next outside of the table",
    ({ tx }) => {
      tx.writeDescriptor(0, HEADER, 65_535);
      tx.offer(0);
    },
    "descriptor 65535 of 128",
  ],
  ["an address between the regions", offerDescriptor(0x1000_0000, 44), "44 bytes at 0x10000000"],
  ["the last address", offerDescriptor(2n ** 64n - 1n, 44), "are no memory"],
  ["an address that wraps around", offerDescriptor(2n ** 64n - 4096n, 65_536), "are no memory"],
  [
    "a buffer that ends beyond its region",
    offerDescriptor(HIGH_GUEST_ADDRESS, 0xff_ff_ff_ff),
    "are no memory",
  ],
  ["a buffer that begins before its region", offerDescriptor(HIGH_GUEST_ADDRESS - 1, 44), "are no memory"],
  ["an indirect table, which was not offered", offerDescriptor(HIGH_GUEST_ADDRESS, 16, 4), "the flags 4"],
  [
    "something to read after room to write",
    ({ tx }) => {
      tx.writeDescriptor(0, { ...HEADER, isWritable: true }, 1);
      tx.writeDescriptor(1, HEADER, undefined);
      tx.offer(0);
    },
    "to read after room to write",
  ],
  [
    "an index that jumps beyond the ring",
    ({ tx }) => {
      tx.offered = 200;
    },
    "offers 200 entries in a ring of 128",
  ],
  [
    "an index that goes back",
    ({ tx }) => {
      tx.offered = 65_535;
    },
    "offers 65535 entries",
  ],
];

describe("a session is ended with E_QEMU_VSOCK_GUEST for", () => {
  test.each(ATTACKS)("%s", async (_, attack, message) => {
    await using bed = await openGuestBed();
    attack(bed.guest);
    bed.guest.kick(TX);
    await eventually("the session ends", () => bed.faults.length > 0);
    expect(bed.faults).toMatchObject([
      { code: "E_QEMU_VSOCK_GUEST", message: expect.stringContaining(message) },
    ]);
    expect(await bed.guest.frontEnd.answer()).toBeUndefined();
  });

  test.each([
    ["room that is too small for a packet", { sizeBytes: 44, isWritable: true }],
    ["no room where packets shall be put", { sizeBytes: 0, isWritable: true }],
    ["something to read where packets shall be put", { sizeBytes: 4096, isWritable: false }],
  ])("%s", async (_, buffer) => {
    await using bed = await openGuestBed({ offersRoom: false });
    const { guest } = bed;
    guest.rx.add([{ address: HIGH_GUEST_ADDRESS, ...buffer }]);
    guest.kick(RX);
    guest.send({ operation: VSOCK_OP.request, destinationPort: 1 });
    await eventually("the session ends", () => bed.faults.length > 0);
    expect(bed.faults).toMatchObject([{ code: "E_QEMU_VSOCK_GUEST" }]);
  });
});

describe("a packet is dropped and counted for", () => {
  const END = { address: HIGH_GUEST_ADDRESS, sizeBytes: 0, isWritable: false };
  test.each([
    ["no bytes at all", [END]],
    ["fewer bytes than a header", [{ ...HEADER, sizeBytes: 43 }]],
    [
      "a header in several pieces that is too short",
      [{ ...HEADER, sizeBytes: 40 }, END, { ...HEADER, sizeBytes: 3 }],
    ],
    ["room for an answer", [HEADER, { ...HEADER, isWritable: true }]],
  ])("%s", async (_, buffers) => {
    await using bed = await openGuestBed();
    const { device, guest } = bed;
    guest.tx.add(buffers);
    guest.kick(TX);
    await guest.until(() => guest.tx.freeDescriptors === guest.tx.size);
    expect(device.stats()).toMatchObject({ malformed: 1, unknown: 0 });
    expect(bed.faults).toEqual([]);
  });
});

describe("a ring", () => {
  test("takes a header and a payload in pieces of every length", async () => {
    await using bed = await openGuestBed();
    const { device, guest } = bed;
    const chunks: Buffer[] = [];
    device.onConnect(9000, (socket) => {
      socket.on("data", (chunk: Buffer) => chunks.push(chunk)).on("error", () => undefined);
    });
    guest.send({ operation: VSOCK_OP.request, destinationPort: 9000, sourcePort: 1 });
    await guest.next();
    // The packet is written where packets are, but offered again as 60 pieces.
    const payload = Buffer.from("pieces of every length");
    guest.queue({ operation: VSOCK_OP.data, destinationPort: 9000, sourcePort: 1 }, payload);
    const head = guest.tx.available[2 + ((guest.tx.offered - 1) & 127)] ?? 0;
    const start = Number(guest.tx.descriptors.getBigUint64(head * 16, true));
    guest.tx.offered -= 1;
    const sizes = [1, 0, 42, 2, 1, 0, 1, 1, 18];
    let address = start;
    const indices = sizes.map((_, index) => 100 + index);
    for (const [at, sizeBytes] of sizes.entries()) {
      guest.tx.writeDescriptor(100 + at, { address, sizeBytes, isWritable: false }, indices[at + 1]);
      address += sizeBytes;
    }
    guest.tx.offer(100);
    guest.kick(TX);
    await eventually("the payload is there", () => Buffer.concat(chunks).length === payload.length);
    expect(Buffer.concat(chunks).toString()).toBe(payload.toString());
  });

  test("without room loses nothing that is owed to live connections, and no more than it may keep otherwise", async () => {
    await using bed = await openGuestBed({ offersRoom: false });
    const { device, guest } = bed;
    device.onConnect(9000, (socket) => {
      socket.on("error", () => undefined).end("hello");
    });
    const send = async (fields: Parameters<HandDrivenGuest["send"]>[0]): Promise<void> => {
      while (!guest.send(fields)) await guest.until(() => guest.tx.freeDescriptors >= 2);
    };
    for (let sourcePort = 1; sourcePort <= 100; sourcePort += 1)
      await send({ operation: VSOCK_OP.request, destinationPort: 9000, sourcePort });
    for (let sourcePort = 1; sourcePort <= 5000; sourcePort += 1)
      await send({ operation: VSOCK_OP.request, destinationPort: 1, sourcePort });
    await guest.until(() => guest.tx.freeDescriptors === guest.tx.size);
    const answers = new Map<number, string[]>();
    let resets = 0;
    guest.onPacket = ({ sourcePort, destinationPort, operation }) => {
      if (sourcePort === 1) resets += 1;
      else answers.set(destinationPort, [...(answers.get(destinationPort) ?? []), String(operation)]);
    };
    guest.offerRoom();
    await guest.until(() => [...answers.values()].filter((list) => list.length === 3).length === 100);
    expect(resets).toBe(4096);
    expect(device.stats().lostResets).toBe(904);
    expect(new Set([...answers.values()].map((list) => list.join()))).toEqual(new Set(["2,5,4"]));
  });

  test("that kicks without an end leaves the event loop to others", async () => {
    await using bed = await openGuestBed();
    const { addon, guest } = bed;
    let turns = 0;
    const kicking = setInterval(() => {
      for (let count = 0; count < 100; count += 1) addon.signalEventfd(guest.kicks[TX]);
      turns += 1;
    }, 0);
    try {
      await eventually("others had their turn", () => turns > 20);
      guest.send({ operation: VSOCK_OP.request, destinationPort: 1, sourcePort: 9 });
      expect(await guest.next()).toMatchObject({ destinationPort: 9 });
    } finally {
      clearInterval(kicking);
    }
  });
});
