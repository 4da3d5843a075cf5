import { once } from "node:events";
import type { Socket } from "node:net";
import { Duplex } from "node:stream";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { openDevelopmentProvider } from "../../../attest/nsm/development-provider.ts";
import { encodeNsmFrame, NsmFrameReader } from "../../../wire/nsm/nsm-frames.ts";
import { dialUnix, DevelopmentBed, MEASUREMENTS, openProviderOf } from "../../dev/nsm-bed.ts";
import { eventually } from "../../enclave/eventually.ts";
import { nsmSuite } from "./nsm-suite.ts";

const NEVER = new AbortController().signal;

let bed: DevelopmentBed;
beforeAll(async () => {
  bed = await DevelopmentBed.open();
});
afterAll(async () => await bed[Symbol.asyncDispose]());

for (const form of ["definite", "indefinite"] as const)
  nsmSuite({
    name: `the development NSM (${form})`,
    measurements: MEASUREMENTS,
    open: async () => openProviderOf(await bed.serve(bed.createNsm({ form }))),
  });

/** Answers each message by what `script` writes. */
async function listen(
  script: (request: Uint8Array, socket: Socket, dialled: number) => void,
): Promise<string> {
  let dialled = 0;
  return await bed.listen((socket) => {
    const mine = (dialled += 1);
    const reader = new NsmFrameReader(0x1000);
    socket.on("error", () => undefined).on("data", (chunk: Buffer) => {
      reader.push(chunk);
      for (let body = reader.next(); body !== undefined; body = reader.next()) script(body, socket, mine);
    });
  }); // prettier-ignore
}

const echo = (request: Uint8Array, socket: Socket): void => void socket.write(encodeNsmFrame(request));
const one = Buffer.from("one");

describe("the provider of the development NSM", () => {
  test("names no root: only a document can tell", async () => {
    await using provider = openProviderOf(await listen(echo));
    expect([provider.name, provider.rootSha256]).toEqual(["development", null]);
  });

  test("dials when it is first asked, and once", async () => {
    let dialled = 0;
    const path = await listen((request, socket, count) => {
      dialled = count;
      echo(request, socket);
    });
    await using provider = openProviderOf(path);
    expect(dialled).toBe(0);
    expect(await provider.exchange(one, NEVER)).toEqual(one);
    expect(await provider.exchange(one, NEVER)).toEqual(one);
    expect(dialled).toBe(1);
  });

  test("sends one request at a time", async () => {
    const waiting: (() => void)[] = [];
    const path = await listen((request, socket) => void waiting.push(() => echo(request, socket)));
    await using provider = openProviderOf(path);
    const answers = [1, 2, 3].map(async (value) => await provider.exchange(Uint8Array.of(value), NEVER));
    for (const [index, answer] of answers.entries()) {
      await eventually("the request is there", () => waiting.length > index);
      expect(waiting).toHaveLength(index + 1);
      waiting[index]?.();
      expect(await answer).toEqual(Buffer.of(index + 1));
    }
  });

  test.each([
    ["hangs up", (socket: Socket) => socket.destroy()],
    ["hangs up halfway", (socket: Socket) => socket.end(encodeNsmFrame(one).subarray(0, 5))],
    ["says that it has no more to say", (socket: Socket) => socket.end()],
    ["answers with nothing", (socket: Socket) => socket.write(Buffer.alloc(4))],
    ["answers with more than there can be", (socket: Socket) => socket.write(Buffer.from("00003001", "hex"))],
    ["answers twice", (socket: Socket) => socket.write(Buffer.concat([encodeNsmFrame(one), encodeNsmFrame(one)]))],
  ])("refuses a peer that %s, and dials again", async (_what, misbehave) => {
    const path = await listen((request, socket, dialled) => {
      if (dialled === 1) misbehave(socket);
      else echo(request, socket);
    });
    await using provider = openProviderOf(path);
    await expect(provider.exchange(one, NEVER)).rejects.toMatchObject({ code: "E_NSM_TRANSPORT" });
    expect(await provider.exchange(one, NEVER)).toEqual(one);
  }); // prettier-ignore

  test("dials again where the peer closed in between, or spoke unasked", async () => {
    const sockets: Socket[] = [];
    const path = await listen((request, socket, dialled) => {
      sockets[dialled] = socket;
      socket.write(encodeNsmFrame(Uint8Array.of(dialled, ...request)));
    });
    await using provider = openProviderOf(path);
    expect(await provider.exchange(one, NEVER)).toEqual(Buffer.of(1, ...one));
    const closed = once(sockets[1] as Socket, "close");
    sockets[1]?.end();
    await closed;
    expect(await provider.exchange(one, NEVER)).toEqual(Buffer.of(2, ...one));
    const refused = once(sockets[2] as Socket, "end");
    sockets[2]?.write(encodeNsmFrame(Buffer.from("late")));
    await refused;
    sockets[2]?.end();
    expect(await provider.exchange(one, NEVER)).toEqual(Buffer.of(3, ...one));
  });

  test("gives up in time, and takes no late answer for the next", async () => {
    const late: Socket[] = [];
    const path = await listen((request, socket, dialled) => {
      if (dialled === 1) late.push(socket);
      else echo(request, socket);
    });
    await using provider = openProviderOf(path, 100);
    await expect(provider.exchange(one, NEVER)).rejects.toMatchObject({
      code: "E_NSM_TRANSPORT",
      message: "the development NSM does not answer: not done within 100 ms",
    });
    late[0]?.write(encodeNsmFrame(Buffer.from("late")));
    expect(await provider.exchange(one, NEVER)).toEqual(one);
  });

  test("says why nobody can be dialled, and tries again", async () => {
    let path = "/nowhere/nsm.sock";
    await using provider = openDevelopmentProvider({ dial: async (signal) => await dialUnix(path, signal) });
    await expect(provider.exchange(one, NEVER)).rejects.toMatchObject({
      code: "E_NSM_TRANSPORT",
      message: "the development NSM does not answer: connect ENOENT /nowhere/nsm.sock",
    });
    path = await listen(echo);
    expect(await provider.exchange(one, NEVER)).toEqual(one);
  });

  test("lets go of a stream that comes when nobody waits for it any more", async () => {
    const dialling = Promise.withResolvers<Duplex>();
    const dialled = Promise.withResolvers<void>();
    const ended = new AbortController();
    await using provider = openDevelopmentProvider({
      dial: async () => {
        dialled.resolve();
        return await dialling.promise;
      },
    });
    const given = provider.exchange(one, ended.signal);
    const next = provider.exchange(one, ended.signal);
    await dialled.promise;
    ended.abort(new Error("no longer"));
    await expect(given).rejects.toThrow("no longer");
    await expect(next).rejects.toThrow("no longer");
    const late = new Duplex({ read: () => undefined, write: (_chunk, _encoding, done) => done() });
    dialling.resolve(late);
    await eventually("the stream is destroyed", () => late.destroyed);
  });

  test.each([0, 0x1001])("sends no request of %i bytes", async (sizeBytes) => {
    await using provider = openDevelopmentProvider({
      dial: async () => await Promise.reject(new Error("was dialled")),
    });
    await expect(provider.exchange(new Uint8Array(sizeBytes), NEVER)).rejects.toMatchObject({
      code: "E_NSM_REQUEST_SIZE",
    });
  });

  test("ends what is asked when it is closed, and is asked no more", async () => {
    const asked = Promise.withResolvers<Socket>();
    const path = await listen((_request, socket) => asked.resolve(socket));
    const provider = openProviderOf(path);
    const pending = provider.exchange(one, NEVER);
    const waiting = provider.exchange(one, NEVER);
    const closed = once(await asked.promise, "close");
    (await asked.promise).once("end", () => void asked.promise.then((socket) => socket.destroy()));
    const refused = [pending, waiting].map(
      async (answer) => await expect(answer).rejects.toMatchObject({ code: "E_NSM_TRANSPORT" }),
    );
    await provider[Symbol.asyncDispose]();
    await Promise.all(refused);
    await closed;
    await expect(provider.exchange(one, NEVER)).rejects.toMatchObject({
      code: "E_NSM_TRANSPORT",
      message: "the development NSM does not answer: it is closed",
    });
    await provider[Symbol.asyncDispose]();
  });
});
