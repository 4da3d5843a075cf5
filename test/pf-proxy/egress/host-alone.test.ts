/** The host's side against an enclave that was taken over: raw prefaces, and whatever a resolver may say. */
import { randomBytes } from "node:crypto";
import { networkInterfaces } from "node:os";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

import type { LookupAll } from "../../../pf-proxy/egress/host-lookup.ts";
import type { EgressRule } from "../../../wire/egress-policy.ts";
import {
  decodeEgressAnswer,
  EGRESS_ANSWER_BYTES,
  type EgressDestination,
  encodeEgressPreface,
} from "../../../wire/egress-preface.ts";
import { addressBytes, parseAddress } from "../../../pf-proxy/policy/network.ts";
import { readExactly } from "../../../pf-proxy/preface-reader.ts";
import { eventually } from "../../enclave/eventually.ts";
import { type EchoServer, EgressBed, openEcho, openUnix, ruleTo } from "./egress-bed.ts";

let echo: EchoServer;
let stack: AsyncDisposableStack;
beforeEach(async () => {
  stack = new AsyncDisposableStack();
  echo = stack.use(await openEcho());
});
afterEach(() => stack.disposeAsync());

async function openHost(rules: readonly EgressRule[], rest: { lookup?: LookupAll } = {}): Promise<EgressBed> {
  return stack.use(await EgressBed.open({ rules, ...rest, ownAddresses: ["203.0.113.77", "2001:db8::77"] }));
}

const allow = (place: { host: string } | { cidr: string }, port: number): EgressRule => ({
  action: "allow",
  ...place,
  ports: [{ from: port, to: port }],
});

/** The host's answer to a preface. */
async function ask(bed: EgressBed, destination: EgressDestination, port: number): Promise<string> {
  const token = randomBytes(8);
  const socket = await openUnix(bed.path, AbortSignal.timeout(5_000));
  socket.on("error", () => undefined);
  try {
    socket.write(encodeEgressPreface(destination, port, token));
    const bytes = await readExactly(
      socket,
      EGRESS_ANSWER_BYTES,
      AbortSignal.timeout(15_000),
      "E_EGRESS_PREFACE",
    );
    return decodeEgressAnswer(bytes, token);
  } catch {
    return "closed";
  } finally {
    socket.destroy();
  }
}

const named = (name: string): EgressDestination => ({ kind: "name", name });
/** Mapped addresses as the 16 bytes that nobody but a liar sends. */
const address = (text: string): EgressDestination => {
  const bytes = addressBytes(parseAddress(text) ?? "");
  if (!text.includes(":")) return { kind: "ipv4", bytes };
  const mapped = Uint8Array.from([...new Uint8Array(10), 0xff, 0xff, ...bytes]);
  return { kind: "ipv6", bytes: bytes.length === 4 ? mapped : bytes };
};

describe("the rules hold for an enclave that ignores them", () => {
  test("names, ports and addresses that none allows are denied", async () => {
    const bed = await openHost([ruleTo("db.test", 5432, echo.port), allow({ cidr: "192.0.2.0/24" }, 80)]);
    expect(await ask(bed, named("db.test"), 5432)).toBe("connected");
    for (const [destination, port] of [
      [named("other.test"), 5432],
      [named("db.test"), 5433],
      [named("x.db.test"), 5432],
      [address("192.0.3.1"), 80],
      [address("192.0.2.1"), 81],
      [address("2001:db8::1"), 80],
    ] as const)
      expect(await ask(bed, destination, port)).toBe("denied");
    expect(bed.outside.report(null, []).denials).toHaveLength(6);
  });

  test.each([
    "DB.TEST",
    "db.test.",
    "db.test%00.evil.test",
    "db..test",
    "127.0.0.1",
    "0x7f.1",
    "[::1]",
    "db.test@x",
  ])("%s, which is no canonical name, ends the connection", async (text) => {
    const bed = await openHost([ruleTo("db.test", 5432, echo.port), allow({ host: "*.test" }, 5432)]);
    expect(await ask(bed, named(text), 5432)).toBe("closed");
    expect(echo.connections()).toBe(0);
  });
});

describe("addresses that nobody may reach", () => {
  const FORBIDDEN = [
    "127.0.0.1", "0.0.0.0", "169.254.169.254", "169.254.1.1", "224.0.0.1", "255.255.255.255", "203.0.113.77",
    "::1", "::", "fe80::1", "fd00:ec2::254", "ff02::1", "2001:db8::77", "::ffff:127.0.0.1", "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "::127.0.0.1",
  ]; // prettier-ignore

  test.each(FORBIDDEN)("%s is not dialled, by name", async (text) => {
    const bed = await openHost([allow({ host: "db.test" }, echo.port)], { lookup: async () => [text] });
    expect(await ask(bed, named("db.test"), echo.port)).toBe("forbidden");
    expect(echo.connections()).toBe(0);
    expect(bed.outside.report(null, []).denials).toMatchObject([
      { target: `db.test:${echo.port}`, reason: expect.stringContaining("forbidden_address") },
    ]);
  });

  test.each(FORBIDDEN)(
    "%s is not dialled, by address and with a rule that lists everything",
    async (text) => {
      const bed = await openHost([
        allow({ cidr: "0.0.0.0/0" }, echo.port),
        allow({ cidr: "::/0" }, echo.port),
      ]);
      expect(await ask(bed, address(text), echo.port)).toBe("forbidden");
      expect(echo.connections()).toBe(0);
    },
  );

  test("a name that resolves to a private address needs a rule for that address too", async () => {
    const lookup: LookupAll = async () => ["10.11.12.13"];
    const bed = await openHost([allow({ host: "db.test" }, 5432)], { lookup });
    expect(await ask(bed, named("db.test"), 5432)).toBe("forbidden");
    const denied = await openHost(
      [allow({ host: "db.test" }, 5432), { ...allow({ cidr: "198.51.100.0/24" }, 5432), action: "deny" }],
      { lookup: async () => ["198.51.100.1"] },
    );
    expect(await ask(denied, named("db.test"), 5432)).toBe("forbidden");
  });

  test("of several answers only the harmless are dialled", async () => {
    const dialled: string[] = [];
    const lookup: LookupAll = async (host) => {
      dialled.push(host);
      return ["127.0.0.1", "169.254.169.254", "::1"];
    };
    const bed = await openHost([allow({ host: "db.test" }, echo.port)], { lookup });
    expect(await ask(bed, named("db.test"), echo.port)).toBe("forbidden");
    expect(dialled).toEqual(["db.test"]);
  });
});

describe("a resolver", () => {
  // An address of this machine never leaves it; here it plays somebody else's.
  const own = Object.values(networkInterfaces())
    .flatMap((list) => list ?? [])
    .find(({ family, internal }) => family === "IPv4" && !internal)?.address;

  test.skipIf(own === undefined)(
    "is asked once for a connection: what was checked is what is dialled",
    async () => {
      let asked = 0;
      const there = own ?? "";
      const server = stack.use(await openEcho(there));
      const lookup: LookupAll = async () => ((asked += 1) === 1 ? [there] : ["127.0.0.1"]);
      const rules = [allow({ host: "db.test" }, server.port), allow({ cidr: `${there}/32` }, server.port)];
      const bed = stack.use(await EgressBed.open({ rules, lookup, ownAddresses: [] }));
      expect(await ask(bed, named("db.test"), server.port)).toBe("connected");
      expect(asked).toBe(1);
      expect(server.connections()).toBe(1);
      const byDefault = stack.use(
        await EgressBed.open({ rules: rules.slice(0, 1), lookup: async () => [there] }),
      );
      expect(await ask(byDefault, named("db.test"), server.port)).toBe("forbidden");
      expect(server.connections()).toBe(1);
    },
  );

  test("that finds nothing, fails or answers no address is told as such", async () => {
    for (const answer of [[], ["nonsense"], ["fe80::1%eth0"]]) {
      const bed = await openHost([allow({ host: "db.test" }, 80)], { lookup: async () => answer });
      expect(await ask(bed, named("db.test"), 80)).toBe("notResolved");
    }
  });
});

describe("bytes that are no preface", () => {
  test("end the connection, and the next is served", async () => {
    const bed = await openHost([ruleTo("db.test", 5432, echo.port)]);
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 64 }), async (bytes) => {
        const socket = await openUnix(bed.path, AbortSignal.timeout(5_000));
        socket.on("error", () => undefined).resume();
        socket.end(bytes);
        await new Promise((resolve) => socket.once("close", resolve));
      }),
      { numRuns: 200 },
    );
    expect(echo.connections()).toBe(0);
    expect(await ask(bed, named("db.test"), 5432)).toBe("connected");
  });

  test("half of one is given up at the deadline, and silent peers take no more than their share", async () => {
    const acceptorLimits = { prefaceTimeoutMs: 200, waiting: 32 };
    const bed = stack.use(
      await EgressBed.open({ rules: [ruleTo("db.test", 5432, echo.port)], acceptorLimits }),
    );
    const closed = await Promise.all(
      Array.from({ length: 200 }, async () => {
        const socket = await openUnix(bed.path, AbortSignal.timeout(5_000));
        socket.on("error", () => undefined).resume();
        socket.once("end", () => socket.destroy()).write("EO");
        return await new Promise((resolve) => socket.once("close", () => resolve("closed")));
      }),
    );
    expect(new Set(closed)).toEqual(new Set(["closed"]));
    await eventually("served again", async () => (await ask(bed, named("db.test"), 5432)) === "connected");
  });
});
