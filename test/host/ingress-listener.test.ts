import { connect, createServer, type Server, type Socket } from "node:net";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

import { type IngressListener, openIngressListener } from "../../pf-proxy/ingress-listener.ts";
import { openLedger } from "../fixtures/pf-proxy/silent-ledger.ts";
import { encodeIngressPreface, INGRESS_STATUS } from "../../wire/ingress-preface.ts";

let directory: string;
let enclave: Server | undefined;
let listener: IngressListener;
let ended: AbortController;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "in-"));
  ended = new AbortController();
  const dial = async (): Promise<Socket> => {
    const socket = connect({ path: join(directory, "8444"), allowHalfOpen: true });
    await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
    return socket;
  };
  listener = await openIngressListener({
    hostAddress: "127.0.0.1",
    hostPort: 0,
    servicePort: 8080,
    dial,
    signal: ended.signal,
    ledger: openLedger("host"),
  });
});
afterEach(async () => {
  ended.abort();
  await listener[Symbol.asyncDispose]();
  enclave?.close();
  enclave = undefined;
  await rm(directory, { recursive: true, force: true });
});

/** An enclave that takes the preface, answers with `status`, and goes on as `serve` says. */
async function listenInside(
  status: number,
  serve: (socket: Socket) => void = () => undefined,
): Promise<void> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("error", () => undefined);
    socket.once("data", (bytes) => {
      expect([...Buffer.from(bytes).subarray(0, 6)]).toEqual([...encodeIngressPreface(8080)]);
      socket.write(Uint8Array.of(status));
      serve(socket);
    });
  });
  await new Promise<void>((resolve) => server.listen(join(directory, "8444"), resolve));
  enclave = server;
}

/** What a client sees: the bytes, and how it ended. */
function visit(
  send: string,
  options: { readonly end: boolean } = { end: true },
): Promise<{ text: string; error: string | undefined }> {
  const { promise, resolve } = Promise.withResolvers<{ text: string; error: string | undefined }>();
  let text = "";
  let error: string | undefined;
  const client = connect({ port: listener.hostPort, host: "127.0.0.1", allowHalfOpen: true }, () => {
    if (options.end) client.end(send);
    else client.write(send);
  });
  client.on("data", (chunk) => (text += chunk.toString()));
  client.on("error", (caught: NodeJS.ErrnoException) => (error = caught.code));
  client.once("end", () => client.end());
  client.once("close", () => resolve({ text, error }));
  return promise;
}

describe("a connection to a published port", () => {
  test("reaches the service after its preface, with the client's half-close carried to it", async () => {
    await listenInside(INGRESS_STATUS.connected, (socket) => {
      let request = "";
      socket.on("data", (chunk) => (request += chunk.toString()));
      socket.once("end", () => socket.end(`got ${request}`));
    });
    expect(await visit("all of it")).toEqual({ text: "got all of it", error: undefined });
  });

  test.each(["notPublished", "refused", "busy"] as const)(
    "is reset when the enclave says %s",
    async (status) => {
      await listenInside(INGRESS_STATUS[status]);
      expect(await visit("x", { end: false })).toEqual({ text: "", error: "ECONNRESET" });
      expect(listener.counts.refused).toBe(1);
    },
  );

  test("is reset when the enclave answers what is no status, or closes instead of answering", async () => {
    await listenInside(77);
    expect((await visit("x", { end: false })).error).toBe("ECONNRESET");
    enclave?.close();
    await rm(join(directory, "8444"), { force: true });
    const closing = createServer((socket) => socket.destroy());
    await new Promise<void>((resolve) => closing.listen(join(directory, "8444"), resolve));
    enclave = closing;
    expect((await visit("x", { end: false })).error).toBe("ECONNRESET");
  });

  test("is reset while the enclave does not listen, and served as soon as it does", async () => {
    expect((await visit("x", { end: false })).error).toBe("ECONNRESET");
    await listenInside(INGRESS_STATUS.connected, (socket) => socket.end("now"));
    expect((await visit("x")).text).toBe("now");
  });

  test("is reset when the enclave dies in the middle of an answer", async () => {
    await listenInside(INGRESS_STATUS.connected, (socket) => socket.write("half", () => socket.destroy()));
    expect((await visit("x", { end: false })).error).toBe("ECONNRESET");
  });
});

test("a taken port is refused with the process that has it, and nothing listens", async () => {
  const taken = openIngressListener({
    hostAddress: "127.0.0.1",
    hostPort: listener.hostPort,
    servicePort: 1,
    dial: () => Promise.reject(new Error("never")),
    signal: ended.signal,
    ledger: openLedger("host"),
  });
  await expect(taken).rejects.toMatchObject({
    code: "E_HOST_PORT_IN_USE",
    message: expect.stringMatching(
      new RegExp(`127\\.0\\.0\\.1:${listener.hostPort} .*process ${process.pid} `),
    ),
  });
});
