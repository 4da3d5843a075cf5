/** Connections that ended on our side and wait for the guest's RST, each for a limited time, with one timer for all. */
import type { Connection } from "./connection.ts";

/** As Linux has it (VSOCK_CLOSE_TIMEOUT). */
const CLOSE_TIMEOUT_MS = 8_000;

export class ClosingConnections {
  /** In the order of their deadlines. */
  readonly #deadlines = new Map<Connection, number>();
  #timer: NodeJS.Timeout | undefined;

  add(connection: Connection): void {
    this.#deadlines.set(connection, performance.now() + CLOSE_TIMEOUT_MS);
    this.#timer ??= setTimeout(() => this.#expire(), CLOSE_TIMEOUT_MS).unref();
  }

  remove(connection: Connection): void {
    if (!this.#deadlines.delete(connection) || this.#deadlines.size > 0) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #expire(): void {
    this.#timer = undefined;
    const now = performance.now();
    for (const [connection, deadline] of this.#deadlines) {
      if (deadline > now) {
        this.#timer = setTimeout(() => this.#expire(), deadline - now).unref();
        return;
      }
      this.#deadlines.delete(connection);
      connection.giveUp();
    }
  }
}
