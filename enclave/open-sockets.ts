import type { Socket } from "node:net";

/** Sockets of a server, streams too, which an HTTP server has let go of. */
export class OpenSockets {
  readonly #open = new Set<Socket>();
  #onEmpty: () => void = () => undefined;

  get size(): number {
    return this.#open.size;
  }

  add(socket: Socket): void {
    this.#open.add(socket);
    socket.once("close", () => {
      this.#open.delete(socket);
      if (this.#open.size === 0) this.#onEmpty();
    });
  }

  /** Lets them end by themselves for a while. */
  async drain(timeoutMs: number): Promise<void> {
    if (this.#open.size === 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#onEmpty = resolve;
    const timer = setTimeout(resolve, timeoutMs);
    await promise;
    clearTimeout(timer);
  }

  destroy(): void {
    for (const socket of this.#open) socket.destroy();
  }
}
