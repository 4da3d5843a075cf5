import { createServer, type RequestListener, type Server } from "node:http";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

import { createLog } from "../../core/log.ts";
import { KitError } from "../../core/errors.ts";
import { followEnclave } from "../../host/runner/control-follower.ts";
import type { HostLogEntry } from "../../host/runner/log-writer.ts";
import type { ToldStatus } from "../../host/runner/status-decoder.ts";
import { waitFor } from "../e2e/testbed.ts";
import { statusOf } from "./status-of.ts";

let directory: string;
let ended: AbortController;
let server: Server | undefined;
let statuses: ToldStatus[];
let entries: HostLogEntry[];
let warnings: string[];
let logEnds: number;
let following: Promise<void> | undefined;
const sockets = new Set<Socket>();

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "cf-"));
  ended = new AbortController();
  statuses = [];
  entries = [];
  warnings = [];
  logEnds = 0;
});
afterEach(async () => {
  ended.abort();
  await following;
  await closeGateway();
  await rm(directory, { recursive: true });
});

/** The gateway's stand-in, on a Unix socket as in the local backend. */
async function openGateway(listener: RequestListener): Promise<void> {
  const opened = createServer(listener);
  opened.on("connection", (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => opened.listen(join(directory, "9001"), resolve));
  server = opened;
}

async function closeGateway(): Promise<void> {
  if (server === undefined) return;
  const closing = new Promise((resolve) => server?.close(resolve));
  for (const socket of sockets) socket.destroy();
  await closing;
  server = undefined;
}

function follow(): void {
  const log = createLog({ write: (line) => warnings.push(line), now: () => 0 });
  const dial = async (): Promise<Socket> => {
    const socket = connect({ path: join(directory, "9001"), allowHalfOpen: true });
    await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject)).catch(
      (cause: unknown) => {
        throw new KitError("E_BACKEND_CONNECT", "nobody listens", { cause });
      },
    );
    return socket;
  };
  following = followEnclave({
    dial,
    signal: ended.signal,
    log,
    shipsLogs: true,
    onStatus: (status) => void statuses.push(status),
    onLogs: async (batch) => void entries.push(...batch),
    onLogsOpen: () => undefined,
    onLogsEnd: () => (logEnds += 1),
  });
}

interface Script {
  readonly restarts?: number;
  readonly events?: (write: (text: string) => void) => void;
  readonly logs?: (after: string, write: (text: string) => void, end: () => void) => void;
}

/** Answers status at once; streams say what the script says and stay open. */
function gateway({ restarts = 0, events, logs }: Script): RequestListener {
  return (request, response) => {
    const url = new URL(request.url ?? "/", "http://enclave");
    if (url.pathname === "/v1/status") {
      const status = statusOf();
      response.end(JSON.stringify({ ...status, supervisor: { ...status.supervisor, restarts } }));
      return;
    }
    response.writeHead(200).flushHeaders();
    const write = (text: string): void => void response.write(text);
    if (url.pathname === "/v1/events") events?.(write);
    else logs?.(url.searchParams.get("after") ?? "", write, () => response.end());
  };
}

const event = '{"seq":1,"time":1,"type":"enclave","service":null,"message":"x"}\n';
const line = (seq: number, text: string): string =>
  `${JSON.stringify({ seq, time: 1, service: "web", stream: "stdout", line: text })}\n`;

test("every event brings the status, and the logs come in order with their gaps", async () => {
  follow(); // before anybody listens: it keeps trying
  await openGateway(
    gateway({
      events: (write) => write(event),
      logs: (_after, write) => {
        const text = `${line(1, "one")}{"dropped":7}\n${line(9, "two")}`;
        write(text.slice(0, 30)); // in the middle of a line
        write(text.slice(30));
      },
    }),
  );
  await waitFor("status", async () => statuses[0]);
  await waitFor("logs", async () => entries[2]);
  expect(statuses[0]?.services).toMatchObject([{ name: "web", health: "healthy" }]);
  expect(entries.map((entry) => entry.line)).toEqual(["one", expect.stringContaining("7 lines"), "two"]);
  expect(warnings).toEqual([]);
});

test("after a break the logs go on behind the last line, and begin anew with a new supervisor", async () => {
  const asked: string[] = [];
  const logs: Script["logs"] = (after, write) => {
    asked.push(after);
    write(line(Number(after) + 1, `behind ${after}`));
  };
  await openGateway(gateway({ logs }));
  follow();
  await waitFor("the first", async () => entries[0]);
  await closeGateway();
  await openGateway(gateway({ logs }));
  await waitFor("the second", async () => entries[1]);
  await closeGateway();
  await openGateway(gateway({ logs, restarts: 1 }));
  await waitFor("the third", async () => entries[2]);
  expect(asked).toEqual(["0", "1", "0"]);
});

test("the end of the log stream is told", async () => {
  await openGateway(
    gateway({
      logs: (_after, write, end) => {
        write(line(1, "last"));
        end();
      },
    }),
  );
  follow();
  await waitFor("the end", async () => (logEnds > 0 ? true : undefined));
  expect(entries[0]?.line).toBe("last");
});

describe("a hostile enclave", () => {
  test.each<[string, RequestListener]>([
    ["a line without end", gateway({ events: (write) => write("x".repeat(300 * 1024)) })],
    ["what is no JSON", gateway({ events: (write) => write("}{\n") })],
    [
      "a status without end",
      (request, response) => {
        if (request.url === "/v1/status") response.end(`"${"x".repeat(2 * 1024 * 1024)}"`);
        else response.writeHead(200).write(event);
      },
    ],
    ["status 500", (_request, response) => response.writeHead(500).end("{}")],
    ["bytes that are no HTTP", (request) => request.socket.end("SSH-2.0-enclave\r\n")],
  ])("with %s is refused, and followed again once it behaves", async (_title, listener) => {
    await openGateway(listener);
    follow();
    await waitFor("the refusal", async () => warnings[0]);
    expect(statuses).toEqual([]);
    await closeGateway();
    await openGateway(gateway({ events: (write) => write(event) }));
    await waitFor("status", async () => statuses[0]);
  });
});
