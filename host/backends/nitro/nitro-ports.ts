/**
 * Vsock ports of this host that an enclave connects to. They are one space for the whole machine, so other enclaves can
 * connect as well; where the dialer tells who connects, everybody else is sent away. An enclave dials before nitro-cli
 * has told its CID, so connections wait until it is known.
 */
import { isErrno, KitError } from "../../../core/errors.ts";
import type { MachineSocket } from "../backend.ts";

/** AF_VSOCK (native/vsock-sockets.ts), or what stands for it in tests. Sockets are as backend.ts wants them. */
export interface NitroDialer {
  connect(cid: number, port: number, signal: AbortSignal): Promise<MachineSocket>;
  /** Hears connections from any CID, until disposed of. @throws errno, EADDRINUSE above all */
  listen(port: number, handler: (socket: MachineSocket, peerCid?: number) => void): Promise<AsyncDisposable>;
}

const MAX_WAITING = 64;

export class NitroPorts implements AsyncDisposable {
  readonly #dialer: NitroDialer;
  readonly #listeners = new AsyncDisposableStack();
  readonly #waiting = new Map<MachineSocket, () => void>();
  #cid: number | undefined;

  constructor(dialer: NitroDialer) {
    this.#dialer = dialer;
  }

  /** @throws E_NITRO_PORT if another program has the port */
  async listen(port: number, handler: (socket: MachineSocket) => void): Promise<void> {
    try {
      this.#listeners.use(await this.#dialer.listen(port, (socket, cid) => this.#meet(socket, cid, handler)));
    } catch (error) {
      if (!isErrno(error, "EADDRINUSE")) throw error;
      throw new KitError("E_NITRO_PORT", `vsock port ${port} of this host is in use`, { cause: error });
    }
  }

  /** The enclave is the one with `cid`. */
  admit(cid: number): void {
    this.#cid = cid;
    for (const goOn of this.#waiting.values()) goOn();
    this.#waiting.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#waiting.keys()) socket.destroy();
    await this.#listeners.disposeAsync();
  }

  #meet(socket: MachineSocket, peerCid: number | undefined, handler: (socket: MachineSocket) => void): void {
    const decide = (): void => {
      if (peerCid === undefined || peerCid === this.#cid) handler(socket);
      else socket.destroy();
    };
    if (peerCid === undefined || this.#cid !== undefined) return decide();
    socket.on("error", () => socket.destroy());
    if (this.#waiting.size >= MAX_WAITING) return void socket.destroy();
    socket.once("close", () => this.#waiting.delete(socket));
    this.#waiting.set(socket, decide);
  }
}
