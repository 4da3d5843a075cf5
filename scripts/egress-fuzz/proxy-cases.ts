/** Clients of the proxies that say anything, in one chunk and in parts. */
import { Duplex } from "node:stream";

import { KitError } from "../../core/errors.ts";
import { formatTarget } from "../../pf-proxy/policy/egress-policy.ts";
import { readConnectRequest } from "../../pf-proxy/proxies/connect-server.ts";
import type { ProxyRequest } from "../../pf-proxy/proxies/proxy-request.ts";
import { readSocksRequest } from "../../pf-proxy/proxies/socks-server.ts";
import type { RandomSource } from "../vsock-fuzz/random-source.ts";
import type { FuzzCase } from "./fuzz-target.ts";
import { mutate, type Mutation, split } from "./mutation.ts";

const hex = (value: string): Buffer => Buffer.from(value.replaceAll(" ", ""), "hex");
const text = (value: string): Buffer => Buffer.from(value, "latin1");
const NAME = text("api.example.com");

const SOCKS: readonly [Buffer, ...Buffer[]] = [
  Buffer.concat([hex("05 01 00 05 01 00 03"), Buffer.of(NAME.length), NAME, hex("01 bb")]),
  hex("05 02 00 02 05 01 00 01 c0 00 02 01 01 bb"),
  hex("05 01 00 05 01 00 04 20010db8000000000000000000000001 01 bb 1603"),
  hex("04 01 00 50 c0 00 02 01 00"),
];
const SOCKS_MUTATION: Mutation = {
  words: [
    hex("05"),
    hex("05 01 00"),
    hex("03 ff"),
    hex("00 00"),
    text("\0.example.com"),
    hex("05 01 00 05 02 00 01"),
  ],
  maxBytes: 4096,
};
const CONNECTS: readonly [Buffer, ...Buffer[]] = [
  text("CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\n\r\n\x16\x03\x01"),
  text("CONNECT [2001:db8::1]:443 HTTP/1.0\r\nUser-Agent: x\r\n\r\n"),
  text("GET http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n"),
];
const CONNECT_MUTATION: Mutation = {
  words: [
    text("\r\n"),
    text("\n"),
    text(":"),
    text("@"),
    text("\0"),
    text("%00"),
    text("Host: evil\r\n"),
    text("\r\n\r\n"),
  ],
  maxBytes: 40_000,
};

export const runSocksCase: FuzzCase = (random) =>
  compare(random, mutate(random, random.pick(SOCKS), SOCKS_MUTATION), readSocksRequest);

export const runConnectCase: FuzzCase = (random) =>
  compare(random, mutate(random, random.pick(CONNECTS), CONNECT_MUTATION), readConnectRequest);

type Read = (stream: Duplex, signal: AbortSignal) => Promise<ProxyRequest>;

async function compare(random: RandomSource, bytes: Buffer, read: Read): Promise<string> {
  const whole = await tryRead([bytes], read);
  const parts = await tryRead(split(random, bytes), read);
  if (whole === parts) return whole.startsWith("E_") ? "refused" : "passed";
  throw new Error(`in one chunk ${whole}, in parts ${parts}`);
}

/** The target and what follows the request, or the code of the refusal. */
async function tryRead(chunks: readonly Buffer[], read: Read): Promise<string> {
  const client = new ScriptedClient(chunks);
  try {
    const { target } = await read(client, new AbortController().signal);
    const rest: Buffer[] = [];
    for await (const chunk of client) if (Buffer.isBuffer(chunk)) rest.push(chunk);
    return `${formatTarget(target)} ${Buffer.concat(rest).toString("hex")}`;
  } catch (error) {
    if (error instanceof KitError) return error.code;
    throw error;
  } finally {
    client.destroy();
  }
}

/** Says its chunks one after the other, and ends; ignores what it is told. */
class ScriptedClient extends Duplex {
  readonly #chunks: Buffer[];

  constructor(chunks: readonly Buffer[]) {
    super({ allowHalfOpen: true });
    this.#chunks = chunks.filter(({ length }) => length > 0);
  }

  override _read(): void {
    this.push(this.#chunks.shift() ?? null);
  }

  override _write(_chunk: unknown, _encoding: string, done: () => void): void {
    done();
  }
}
