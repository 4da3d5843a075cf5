import { createHash } from "node:crypto";
import { getEventListeners } from "node:events";
import { Duplex, duplexPair } from "node:stream";

import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { type NsmServerOptions, serveDevelopmentNsm } from "../../dev/nsm-server.ts";
import { encodeCbor } from "../../wire/cbor/cbor-encoder.ts";
import { encodeNsmFrame } from "../../wire/nsm/nsm-frames.ts";
import { encodeNsmRequest, type NsmRequest } from "../../wire/nsm/nsm-requests.ts";
import { decodeNsmResponse } from "../../wire/nsm/nsm-responses.ts";
import { eventually } from "../enclave/eventually.ts";
import { FramePeer } from "./frame-peer.ts";
import { DevelopmentBed, dialUnix } from "./nsm-bed.ts";

/** Short, and never measured: only that it comes. */
const SHORT_MS = 200;
/** Where somebody must not miss it, also on a machine that is busy. */
const LONGER_MS = 2_000;
const hex = (text: string): Buffer => Buffer.from(text, "hex");
const refusal = (name: string): Buffer => encodeCbor(new Map([["Error", name]]));
const locked = encodeCbor("LockPCR");

let bed: DevelopmentBed;
beforeAll(async () => {
  bed = await DevelopmentBed.open();
});
afterAll(async () => await bed[Symbol.asyncDispose]());

async function serve(options: Partial<NsmServerOptions> = {}): Promise<string> {
  return await bed.serve(bed.createNsm(), options);
}

async function dial(path: string): Promise<FramePeer> {
  return new FramePeer(await dialUnix(path));
}

/** Requests whose answers tell how many came before, and those answers. */
function extensions(count: number): { requests: NsmRequest[]; answers: Buffer[] } {
  let value = Buffer.alloc(48);
  const requests = Array.from({ length: count }, (_item, index): NsmRequest => ({ kind: "ExtendPCR", index: 16, data: Buffer.from(`${index}`) }));
  const answers = requests.map((_request, index) => {
    value = createHash("sha384").update(value).update(`${index}`).digest();
    return encodeCbor(new Map([["ExtendPCR", new Map([["data", value]])]]));
  });
  return { requests, answers };
} // prettier-ignore

const frame = (request: NsmRequest): Buffer => encodeNsmFrame(encodeNsmRequest(request));

describe("a connection to the development NSM", () => {
  test("is given one answer for each request, in order, however many are sent at once", async () => {
    using peer = await dial(await serve());
    const { requests, answers } = extensions(300);
    peer.sendBytes(Buffer.concat(requests.map((request) => frame(request))));
    expect(await peer.answered(300)).toEqual(answers);
    expect(await peer.ask({ kind: "LockPCR", index: 16 })).toEqual(locked);
    expect(peer.answers).toHaveLength(301);
  });

  test("may send byte by byte", async () => {
    const [client, server] = duplexPair();
    serveDevelopmentNsm({ nsm: async () => bed.createNsm(), signal: new AbortController().signal })(server);
    using peer = new FramePeer(client);
    const stream = Buffer.concat([frame({ kind: "LockPCR", index: 20 }), frame({ kind: "DescribePCR", index: 32 })]);
    for (const byte of stream) await peer.sendBytesFlushed(Buffer.of(byte));
    expect(await peer.answered(2)).toEqual([locked, refusal("InvalidIndex")]);
    // And over a socket, as the kernel joins them.
    using far = await dial(await serve());
    for (const byte of stream) await far.sendBytesFlushed(Buffer.of(byte));
    expect(await far.answered(2)).toEqual([locked, refusal("InvalidIndex")]);
  }); // prettier-ignore

  test("is told of what is no request, and goes on", async () => {
    using peer = await dial(await serve());
    for (const garbage of [hex("ff"), hex("00"), hex("9f9f9f9f"), Buffer.alloc(4096, 0xa1), Buffer.alloc(4096), Buffer.from("GetRandom")])
      expect(await peer.ask(garbage)).toEqual(refusal("InvalidOperation"));
    expect(await peer.ask({ kind: "LockPCR", index: 16 })).toEqual(locked);
  }); // prettier-ignore

  test("takes the largest request there is", async () => {
    using peer = await dial(await serve());
    const around = encodeNsmRequest({ kind: "ExtendPCR", index: 16, data: Buffer.alloc(1000) }).length - 1000;
    const answer = await peer.ask({ kind: "ExtendPCR", index: 16, data: Buffer.alloc(4096 - around) });
    expect(answer.subarray(2, 11).toString()).toBe("ExtendPCR");
  });

  test.each([
    ["no bytes", "00000000"],
    ["4097 bytes", "00001001"],
    ["2 GiB", "7fffffff"],
    ["4 GiB", "ffffffff"],
  ])("is ended by a request of %s, after the answers to what came before", async (_what, length) => {
    const path = await serve();
    using peer = await dial(path);
    const { requests, answers } = extensions(3);
    const after = frame({ kind: "LockPCR", index: 17 });
    peer.sendBytes(Buffer.concat([...requests.map((request) => frame(request)), hex(length), after]));
    expect(await peer.all()).toEqual(answers);
    // What came after it was not done.
    using next = await dial(path);
    expect(await next.ask({ kind: "LockPCR", index: 17 })).toEqual(locked);
  });

  test.each([1, 3, 4, 5, 20])("is ended where it ends %i bytes into a request, without an answer", async (sizeBytes) => {
    const path = await serve();
    using peer = await dial(path);
    peer.sendBytes(frame({ kind: "LockPCR", index: 17 }).subarray(0, sizeBytes));
    peer.socket.end();
    expect(await peer.all()).toEqual([]);
    using next = await dial(path);
    expect(await next.ask({ kind: "LockPCR", index: 17 })).toEqual(locked);
  }); // prettier-ignore

  test("is given its answers where it says at once that it sends no more", async () => {
    using peer = await dial(await serve());
    const { requests, answers } = extensions(20);
    peer.sendBytes(Buffer.concat(requests.map((request) => frame(request))));
    peer.socket.end();
    expect(await peer.all()).toEqual(answers);
    expect(peer.isInAnswer).toBe(false);
  });

  test("may be one of many, each with its own answers", async () => {
    const path = await serve();
    const peers = await Promise.all(Array.from({ length: 150 }, async () => await dial(path)));
    const asked = peers.map(async (peer, index) => {
      const described = await peer.ask({ kind: "DescribePCR", index: index % 16 });
      const none = await peer.ask({ kind: "LockPCR", index: 32 + index });
      return [described.subarray(2, 13).toString(), none];
    });
    for (const answer of await Promise.all(asked)) expect(answer).toEqual(["DescribePCR", refusal("InvalidIndex")]);
    for (const peer of peers) peer[Symbol.dispose]();
    using last = await dial(path);
    expect(await last.ask({ kind: "LockPCR", index: 16 })).toEqual(locked);
  }); // prettier-ignore

  test("that breaks off while it is answered harms nobody, and is nothing to report", async () => {
    const reports: unknown[] = [];
    const entered = Promise.withResolvers<void>();
    const release = Promise.withResolvers<void>();
    const nsm = bed.createNsm();
    const path = await bed.serve(nsm, {
      nsm: async () => {
        entered.resolve();
        await release.promise;
        return nsm;
      },
      report: (error) => reports.push(error),
    });
    const peer = await dial(path);
    peer.send({ kind: "LockPCR", index: 16 });
    await entered.promise;
    peer.socket.destroy();
    await peer.closed();
    release.resolve();
    using next = await dial(path);
    expect(await next.ask({ kind: "LockPCR", index: 17 })).toEqual(locked);
    expect(reports).toEqual([]);
  });

  test("that carries texts is ended", async () => {
    const [client, server] = duplexPair();
    server.setEncoding("utf8");
    serveDevelopmentNsm({ nsm: async () => bed.createNsm(), signal: new AbortController().signal })(server);
    using peer = new FramePeer(client);
    peer.send({ kind: "LockPCR", index: 16 });
    expect(await peer.all()).toEqual([]);
  });
});

describe("a peer of the development NSM that is not read from", () => {
  test("is asked for no more than was answered", async () => {
    const request = frame({ kind: "DescribePCR", index: 0 });
    const written = Promise.withResolvers<void>();
    let [pulled, asked] = [0, 0];
    const nsm = bed.createNsm();
    // Gives a request whenever it is read, and never takes an answer to its end.
    const silent = new Duplex({
      readableHighWaterMark: 1,
      read: () => {
        pulled += 1;
        if (pulled <= 10_000) silent.push(request);
        else silent.push(null);
      },
      write: () => written.resolve(),
    });
    const ended = new AbortController();
    serveDevelopmentNsm({
      nsm: async () => {
        asked += 1;
        return nsm;
      },
      signal: ended.signal,
    })(silent);
    await written.promise;
    // Everything that is due happens, many times over.
    for (let turn = 0; turn < 100; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    expect(asked).toBe(1);
    expect(pulled).toBeLessThan(5);
    const closed = new Promise((resolve) => void silent.once("close", resolve));
    ended.abort();
    await closed;
  });

  test("is hung up on in time, and others are answered meanwhile", async () => {
    let asked = 0;
    const nsm = bed.createNsm();
    const path = await bed.serve(nsm, {
      nsm: async () => {
        asked += 1;
        return nsm;
      },
      frameTimeoutMs: SHORT_MS,
    });
    const socket = await dialUnix(path);
    const closed = new Promise((resolve) => void socket.once("close", resolve));
    const { promise: refused, resolve } = Promise.withResolvers<void>();
    socket.once("error", () => resolve());
    // Far more than all buffers between hold, and a socket that is written to for ever.
    const many = Buffer.concat(Array.from({ length: 2_000 }, () => frame({ kind: "GetRandom" })));
    const flood = (): void => void socket.write(many, (error) => (error ? resolve() : flood()));
    flood();
    using other = await dial(path);
    expect(await other.ask({ kind: "LockPCR", index: 16 })).toEqual(locked);
    await refused;
    const total = asked;
    socket.destroy();
    await closed;
    expect(await other.ask({ kind: "LockPCR", index: 17 })).toEqual(locked);
    expect(asked).toBe(total + 1);
  });
});

describe("a slow peer of the development NSM", () => {
  test.each([1, 4, 10])("is hung up on %i bytes into a request", async (sizeBytes) => {
    using peer = await dial(await serve({ frameTimeoutMs: SHORT_MS }));
    peer.sendBytes(frame({ kind: "LockPCR", index: 16 }).subarray(0, sizeBytes));
    expect(await peer.all()).toEqual([]);
  });

  test("gets no more time for sending byte by byte", async () => {
    using peer = await dial(await serve({ frameTimeoutMs: SHORT_MS }));
    const body = encodeNsmFrame(Buffer.alloc(4096));
    let sent = 0;
    // Each byte is sent when a moment has passed since the last: in all, many times what is allowed.
    const drip = setInterval(() => {
      if (sent < body.length) peer.sendBytes(body.subarray(sent, (sent += 1)));
    }, SHORT_MS / 20);
    try {
      expect(await peer.all()).toEqual([]);
    } finally {
      clearInterval(drip);
    }
    expect(sent).toBeLessThan(body.length);
  });

  test("is hung up on in the second of two requests that came together", async () => {
    using peer = await dial(await serve({ frameTimeoutMs: SHORT_MS }));
    const whole = frame({ kind: "LockPCR", index: 16 });
    peer.sendBytes(Buffer.concat([whole, whole.subarray(0, 7)]));
    expect(await peer.all()).toEqual([locked]);
  });

  test("is hung up on where it asks nothing, at first or after an answer", async () => {
    const path = await serve({ idleTimeoutMs: LONGER_MS });
    using silent = await dial(path);
    using asking = await dial(path);
    expect(await asking.ask({ kind: "LockPCR", index: 16 })).toEqual(locked);
    await Promise.all([silent.ended, asking.ended]);
  });

  test("is not hung up on for the time between its requests", async () => {
    const path = await serve({ frameTimeoutMs: SHORT_MS });
    using patient = await dial(path);
    expect(await patient.ask({ kind: "LockPCR", index: 16 })).toEqual(locked);
    // A timer left over would come before that of somebody who began later.
    using slow = await dial(path);
    slow.sendBytes(Buffer.of(0));
    await slow.ended;
    expect(await patient.ask({ kind: "LockPCR", index: 17 })).toEqual(locked);
    expect(patient.answers).toHaveLength(2);
  });

  test("is not hung up on for the time that its answer takes to be made", async () => {
    const release = Promise.withResolvers<void>();
    let asked = 0;
    const nsm = bed.createNsm();
    const path = await bed.serve(nsm, {
      nsm: async () => {
        asked += 1;
        await release.promise;
        return nsm;
      },
      frameTimeoutMs: LONGER_MS,
      idleTimeoutMs: LONGER_MS,
    });
    using patient = await dial(path);
    patient.send({ kind: "LockPCR", index: 16 });
    await eventually("it is being answered", () => asked === 1);
    using slow = await dial(path);
    slow.sendBytes(Buffer.of(0));
    await slow.ended;
    release.resolve();
    expect(await patient.answered(1)).toEqual([locked]);
  });
});

describe("a development NSM that fails", () => {
  test("is told as InternalError, reported, and asked again", async () => {
    const reports: unknown[] = [];
    let attempts = 0;
    const nsm = bed.createNsm();
    const path = await bed.serve(nsm, {
      nsm: async () => {
        attempts += 1;
        if (attempts < 3) throw new Error(`not yet: ${attempts}`);
        return nsm;
      },
      report: (error) => reports.push(error),
    });
    using peer = await dial(path);
    for (const expected of [refusal("InternalError"), refusal("InternalError"), locked])
      expect(await peer.ask({ kind: "LockPCR", index: 16 })).toEqual(expected);
    expect(reports).toEqual([new Error("not yet: 1"), new Error("not yet: 2")]);
  });

  test("in the middle of a request tells the enclave nothing of the reason", async () => {
    const reports: unknown[] = [];
    let isBroken = true;
    const nowMs = (): number => {
      if (isBroken) throw new Error("a clock of the host");
      return Date.now();
    };
    const path = await bed.serve(bed.createNsm({ nowMs }), { report: (error) => reports.push(error) });
    using peer = await dial(path);
    const request = { kind: "Attestation", userData: null, nonce: null, publicKey: null } as const;
    expect(await peer.ask(request)).toEqual(refusal("InternalError"));
    expect(reports).toEqual([new Error("a clock of the host")]);
    isBroken = false;
    expect(decodeNsmResponse(await peer.ask(request), request)).toHaveProperty("document");
  });

  test("costs a connection at most where reporting fails too", async () => {
    let isBroken = true;
    const nsm = bed.createNsm();
    const path = await bed.serve(nsm, {
      nsm: async () => {
        if (isBroken) throw new Error("no module");
        return nsm;
      },
      report: () => {
        throw new Error("no log either");
      },
    });
    using peer = await dial(path);
    peer.send({ kind: "LockPCR", index: 16 });
    expect(await peer.all()).toEqual([]);
    isBroken = false;
    using next = await dial(path);
    expect(await next.ask({ kind: "LockPCR", index: 16 })).toEqual(locked);
  });
});

describe("the end of serving", () => {
  test("ends every connection, whatever it is at, and lets go of the signal", async () => {
    const ending = new AbortController();
    const entered = Promise.withResolvers<void>();
    const release = Promise.withResolvers<void>();
    let isSlow = false;
    const nsm = bed.createNsm();
    const path = await bed.serve(nsm, {
      nsm: async () => {
        if (isSlow) entered.resolve();
        if (isSlow) await release.promise;
        return nsm;
      },
      signal: ending.signal,
    });
    const peers = await Promise.all(Array.from({ length: 40 }, async () => await dial(path)));
    const [idle, half, waiting] = peers;
    await Promise.all(peers.map(async (peer) => await peer.ask({ kind: "DescribePCR", index: 0 })));
    expect(getEventListeners(ending.signal, "abort")).toHaveLength(40);
    isSlow = true;
    half?.sendBytes(Buffer.of(0, 0));
    waiting?.send({ kind: "LockPCR", index: 16 });
    await entered.promise;
    ending.abort();
    await Promise.all(peers.map(async (peer) => await peer.ended));
    release.resolve();
    expect([idle, half, waiting].map((peer) => peer?.answers.length)).toEqual([1, 1, 1]);
    await eventually("nobody listens any more", () => getEventListeners(ending.signal, "abort").length === 0);
    for (const peer of peers) peer[Symbol.dispose]();
  }); // prettier-ignore

  test("ends a connection that comes later at once", async () => {
    const path = await serve({ signal: AbortSignal.abort() });
    const peer = await dial(path);
    peer.send({ kind: "LockPCR", index: 16 });
    expect(await peer.all()).toEqual([]);
    peer[Symbol.dispose]();
  });

  test("leaves no listener behind for connections that are over", async () => {
    const { signal } = new AbortController();
    const path = await serve({ signal });
    for (let round = 0; round < 30; round += 1) {
      using peer = await dial(path);
      await peer.ask({ kind: "LockPCR", index: 31 });
      if (round % 2 === 0) peer.socket.end();
    }
    await eventually("nobody listens any more", () => getEventListeners(signal, "abort").length === 0);
  });
});

describe("any bytes to the development NSM", () => {
  const anyRequest: fc.Arbitrary<NsmRequest> = fc.oneof(
    fc.record({ kind: fc.constantFrom("DescribeNSM" as const, "GetRandom" as const) }),
    fc.record({ kind: fc.constantFrom("DescribePCR" as const, "LockPCR" as const), index: fc.nat(40) }),
    fc.record({ kind: fc.constant("ExtendPCR" as const), index: fc.nat(40), data: fc.uint8Array() }),
  );
  const whole = anyRequest.map((request) => frame(request));
  const damaged = fc.tuple(whole, fc.nat(), fc.nat(255)).map(([bytes, at, value]) => {
    const copy = Buffer.from(bytes);
    copy[at % copy.length] = value;
    return copy;
  });
  const framed = fc.uint8Array({ minLength: 1, maxLength: 200 }).map((body) => encodeNsmFrame(body));
  const cut = fc.tuple(whole, fc.nat()).map(([bytes, at]) => bytes.subarray(0, at % bytes.length));
  const anyBytes = fc.oneof(whole, damaged, framed, cut, fc.uint8Array({ maxLength: 64 }));

  test("never cost more than the connection, and are answered by whole answers", async () => {
    const reports: unknown[] = [];
    const path = await serve({ report: (error) => reports.push(error) });
    using witness = await dial(path);
    await fc.assert(
      fc.asyncProperty(fc.array(anyBytes, { maxLength: 8 }), fc.boolean(), async (chunks, isCut) => {
        using peer = await dial(path);
        for (const chunk of chunks) await peer.sendBytesFlushed(chunk);
        if (isCut) peer.socket.destroy();
        else peer.socket.end();
        for (const answer of await peer.all()) expect(isResponse(answer)).toBe(true);
        expect(isCut || !peer.isInAnswer).toBe(true);
        expect(await witness.ask({ kind: "LockPCR", index: 0 })).toEqual(refusal("ReadOnlyIndex"));
      }),
      { numRuns: 120 },
    );
    expect(reports).toEqual([]);
  });

  test("that are whole requests are each answered, wherever the stream is cut", async () => {
    const path = await serve();
    const one = fc.tuple(fc.array(whole, { minLength: 1, maxLength: 12 }), fc.array(fc.nat(), { maxLength: 6 }));
    await fc.assert(
      fc.asyncProperty(one, async ([frames, places]) => {
        using peer = await dial(path);
        const stream = Buffer.concat(frames);
        const ends = [...places.map((place) => place % stream.length), stream.length].sort((a, b) => a - b);
        for (const [index, end] of ends.entries())
          await peer.sendBytesFlushed(stream.subarray(ends[index - 1] ?? 0, end));
        peer.socket.end();
        expect(await peer.all()).toHaveLength(frames.length);
      }),
      { numRuns: 60 },
    );
  }); // prettier-ignore

  function isResponse(answer: Uint8Array): boolean {
    const kinds = ["DescribeNSM", "DescribePCR", "ExtendPCR", "LockPCR", "LockPCRs", "Attestation", "GetRandom"] as const; // prettier-ignore
    return kinds.some((kind) => {
      try {
        return decodeNsmResponse(answer, { kind }) !== undefined;
      } catch {
        return false;
      }
    });
  }
});
