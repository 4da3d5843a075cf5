/**
 * Who may hold a connection, and for how long. A connection is always in one phase with one deadline that no dripping of
 * bytes moves: its handshake, a request that is being waited for (also on an idle connection), or an answer that its
 * client has yet to take. When all places are taken, the one that waits longest for its handshake gives way, then the one
 * that waits longest for a request: a flood of connections that say nothing shuts nobody out.
 */
import type { Socket } from "node:net";

export type Phase = "handshake" | "request" | "answer";

export interface GuardLimits {
  readonly connections: number;
  readonly handshakeMs: number;
  /** From the handshake, or the answer before, until the whole request is there. */
  readonly requestMs: number;
  readonly answerMs: number;
}

export const GUARD_LIMITS: GuardLimits = {
  connections: 1024,
  handshakeMs: 10_000,
  requestMs: 30_000,
  answerMs: 30_000,
};

export class ConnectionGuard implements Disposable {
  readonly #limits: GuardLimits;
  readonly #onCut: (phase: Phase | "place") => void;
  /** The timer of each, in the order in which they came into the phase. */
  readonly #phases: Readonly<Record<Phase, Map<Socket, NodeJS.Timeout>>> = {
    handshake: new Map(),
    request: new Map(),
    answer: new Map(),
  };
  #onEmpty: () => void = () => undefined;

  /** @param onCut hears of each connection that is ended: in which phase its time was over, or that it gave its place */
  constructor(limits: GuardLimits, onCut: (phase: Phase | "place") => void) {
    this.#limits = limits;
    this.#onCut = onCut;
  }

  get size(): number {
    const { handshake, request, answer } = this.#phases;
    return handshake.size + request.size + answer.size;
  }

  /** Takes a new connection, which begins its handshake. @returns false: destroyed, there is no place */
  admit(socket: Socket): boolean {
    if (this.size >= this.#limits.connections && !this.#makePlace()) {
      this.#onCut("place");
      socket.destroy();
      return false;
    }
    socket.once("close", () => this.#forget(socket));
    this.#put(socket, "handshake");
    return true;
  }

  /** Moves a connection on; nothing if it has ended. */
  enter(socket: Socket, phase: Phase): void {
    if (this.#forget(socket)) this.#put(socket, phase);
  }

  /** Ends those that wait for a request now, and lets the others end within `timeoutMs`. */
  async drain(timeoutMs: number): Promise<void> {
    const { handshake, request } = this.#phases;
    for (const socket of [...handshake.keys(), ...request.keys()]) socket.destroy();
    if (this.size > 0) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#onEmpty = resolve;
      const timer = setTimeout(resolve, timeoutMs);
      await promise;
      clearTimeout(timer);
    }
    this[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    for (const phase of Object.values(this.#phases)) {
      for (const socket of phase.keys()) socket.destroy();
    }
  }

  #put(socket: Socket, phase: Phase): void {
    const expire = (): void => {
      this.#onCut(phase);
      socket.destroy();
    };
    this.#phases[phase].set(socket, setTimeout(expire, this.#timeOf(phase)));
  }

  #timeOf(phase: Phase): number {
    const { handshakeMs, requestMs, answerMs } = this.#limits;
    return { handshake: handshakeMs, request: requestMs, answer: answerMs }[phase];
  }

  #forget(socket: Socket): boolean {
    for (const phase of Object.values(this.#phases)) {
      const timer = phase.get(socket);
      if (timer === undefined) continue;
      clearTimeout(timer);
      phase.delete(socket);
      if (this.size === 0) this.#onEmpty();
      return true;
    }
    return false;
  }

  #makePlace(): boolean {
    const { handshake, request } = this.#phases;
    const [oldest] = [...handshake.keys().take(1), ...request.keys().take(1)];
    if (oldest === undefined) return false;
    this.#onCut("place");
    this.#forget(oldest);
    oldest.destroy();
    return true;
  }
}
