/** Requests of each connection that are whole but not answered: clients may send the next before they have the answer. */
import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";

import type { Phase } from "../connection-guard.ts";

export class PendingAnswers {
  readonly #enter: (socket: Socket, phase: Phase) => void;
  readonly #counts = new WeakMap<Socket, number>();
  readonly #begun = new WeakSet<IncomingMessage>();

  /** @param enter hears what a connection waits for now */
  constructor(enter: (socket: Socket, phase: Phase) => void) {
    this.#enter = enter;
  }

  /** The whole request is there. Those behind it do not give its answer more time. */
  begin(request: IncomingMessage): void {
    const { socket } = request;
    const count = this.#counts.get(socket) ?? 0;
    this.#begun.add(request);
    this.#counts.set(socket, count + 1);
    if (count === 0) this.#enter(socket, "answer");
  }

  /** Its client took the answer. Some are given before the request is whole. */
  end(request: IncomingMessage): void {
    const { socket } = request;
    const count = (this.#counts.get(socket) ?? 0) - (this.#begun.has(request) ? 1 : 0);
    this.#counts.set(socket, count);
    this.#enter(socket, count > 0 ? "answer" : "request");
  }
}
