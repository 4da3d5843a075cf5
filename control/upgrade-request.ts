/** A request whose connection becomes a raw stream, as the Docker Engine API does for attach. */
import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";

import { readRefusal, refusal } from "./answer-body.ts";
import { type Dial, openRequest } from "./control-request.ts";

const PROTOCOL = "enclave-stream";

export interface UpgradeRequest {
  readonly path: string;
  readonly body: unknown;
  readonly signal: AbortSignal;
  readonly timeoutMs: number;
}

/**
 * The connection after its upgrade, paused, half-open allowed. The caller owns it; the signal has no more to do with it.
 * @throws the enclave's refusal, E_HOST_CONTROL for another answer than 101, E_CONTROL_LOST, E_DEADLINE
 */
export async function upgradeConnection(dial: Dial, options: UpgradeRequest): Promise<Socket> {
  const what = `POST ${options.path}`;
  const headers = { "content-type": "application/json", connection: "Upgrade", upgrade: PROTOCOL };
  using open = await openRequest(dial, {
    method: "POST",
    path: options.path,
    headers,
    signal: options.signal,
    headTimeoutMs: options.timeoutMs,
  });
  const upgraded = Promise.withResolvers<Socket>();
  open.request.once("upgrade", (response: IncomingMessage, socket: Socket, head: Buffer) => {
    socket.on("error", () => socket.destroy()); // between two readers nobody else would hear of it
    if (response.headers.upgrade?.toLowerCase() === PROTOCOL) {
      if (head.length > 0) socket.unshift(head);
      return upgraded.resolve(socket);
    }
    socket.destroy();
    upgraded.reject(refusal(what, "another protocol than was asked for"));
  });
  open.request.end(JSON.stringify(options.body));
  return await Promise.race([upgraded.promise, refuse(open.response, what)]);
}

async function refuse(response: Promise<IncomingMessage>, what: string): Promise<never> {
  const answer = await response;
  if ((answer.statusCode ?? 0) >= 400) throw await readRefusal(answer, what);
  answer.destroy();
  throw refusal(what, `HTTP status ${answer.statusCode} and no stream`);
}
