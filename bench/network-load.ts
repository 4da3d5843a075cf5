/**
 * The load of the network benchmark: one program for every path, inside the enclave and on the host, with nothing of the
 * toolkit in it. Modes:
 *   serve PORT                echoes what comes; swallows it where the first byte is S
 *   load HOST PORT            measures one path and prints one line of JSON (LoadResult)
 */
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";

export interface LoadResult {
  /** MiB a second, one connection and eight. */
  readonly throughput1: number;
  readonly throughput8: number;
  /** One byte there and back on an open connection, in ms. */
  readonly roundTripP50: number;
  readonly roundTripP99: number;
  /** From connect to the first byte back. */
  readonly freshP50: number;
  readonly freshP99: number;
  /** Connections a second with one byte each way, one and 32 at once. */
  readonly rate1: number;
  readonly rate32: number;
}

const RUN_MS = 1_500;
const ROUND_TRIPS = 2_000;
const FRESH = 300;
const CHUNK = Buffer.alloc(64 * 1024, "S");
const MIB = 2 ** 20;

function serve(port: number): void {
  const server = createServer({ noDelay: true }, (socket) => {
    socket
      .on("error", () => undefined)
      .once("data", (first: Buffer) => {
        if (first[0] === CHUNK[0]) return void socket.resume();
        socket.write(first);
        socket.pipe(socket);
      });
  });
  server.listen({ port, host: "127.0.0.1", backlog: 4096 }, () => {
    const address = server.address();
    process.stdout.write(`${typeof address === "object" ? (address?.port ?? 0) : 0}\n`);
  });
}

async function dial(host: string, port: number): Promise<Socket> {
  const socket = connect({ host, port, noDelay: true, autoSelectFamily: false });
  await once(socket, "connect");
  return socket.on("error", () => undefined);
}

async function measureThroughput(host: string, port: number, streams: number): Promise<number> {
  const sockets = await Promise.all(Array.from({ length: streams }, async () => await dial(host, port)));
  const end = performance.now() + RUN_MS;
  const push = async (socket: Socket): Promise<number> => {
    let bytes = 0;
    while (performance.now() < end) {
      bytes += CHUNK.length;
      if (!socket.write(CHUNK)) await once(socket, "drain");
    }
    return bytes;
  };
  const started = performance.now();
  const bytes = (await Promise.all(sockets.map(push))).reduce((sum, one) => sum + one, 0);
  const seconds = (performance.now() - started) / 1000;
  for (const socket of sockets) socket.destroy();
  return bytes / MIB / seconds;
}

async function measureRoundTrips(host: string, port: number): Promise<number[]> {
  const socket = await dial(host, port);
  const times: number[] = [];
  for (let count = 0; count < ROUND_TRIPS; count += 1) {
    const started = performance.now();
    socket.write("x");
    await once(socket, "data");
    times.push(performance.now() - started);
  }
  socket.destroy();
  return times;
}

async function visit(host: string, port: number): Promise<number> {
  const started = performance.now();
  const socket = await dial(host, port);
  socket.write("x");
  await once(socket, "data");
  const took = performance.now() - started;
  socket.destroy();
  return took;
}

async function measureFresh(host: string, port: number): Promise<number[]> {
  const times: number[] = [];
  for (let count = 0; count < FRESH; count += 1) times.push(await visit(host, port));
  return times;
}

async function measureRate(host: string, port: number, parallel: number): Promise<number> {
  const started = performance.now();
  let count = 0;
  const work = async (): Promise<void> => {
    while (performance.now() - started < RUN_MS) {
      await visit(host, port);
      count += 1;
    }
  };
  await Promise.all(Array.from({ length: parallel }, work));
  return (count / (performance.now() - started)) * 1000;
}

function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

async function load(host: string, port: number): Promise<LoadResult> {
  const throughput1 = await measureThroughput(host, port, 1);
  const throughput8 = await measureThroughput(host, port, 8);
  const trips = await measureRoundTrips(host, port);
  const fresh = await measureFresh(host, port);
  return {
    throughput1,
    throughput8,
    roundTripP50: quantile(trips, 0.5),
    roundTripP99: quantile(trips, 0.99),
    freshP50: quantile(fresh, 0.5),
    freshP99: quantile(fresh, 0.99),
    rate1: await measureRate(host, port, 1),
    rate32: await measureRate(host, port, 32),
  };
}

const [mode, ...words] = process.argv.slice(2);
if (mode === "serve") serve(Number(words[0]));
if (mode === "load")
  process.stdout.write(`${JSON.stringify(await load(words[0] ?? "", Number(words[1])))}\n`);
