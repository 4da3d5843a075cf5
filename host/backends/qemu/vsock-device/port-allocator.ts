/** Below are ports that services listen on. */
const FIRST_PORT = 1024;
/** The last is "any port". */
const END_PORT = 0xff_ff_ff_ff;

/** Ports for the host's end of connections, each as late again as possible. */
export class PortAllocator {
  #next = FIRST_PORT;

  /** @param isFree true for some port: there are fewer connections than ports. */
  next(isFree: (port: number) => boolean): number {
    for (;;) {
      const port = this.#next;
      this.#next = port + 1 === END_PORT ? FIRST_PORT : port + 1;
      if (isFree(port)) return port;
    }
  }
}
