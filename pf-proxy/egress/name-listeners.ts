/**
 * For kernels that do not redirect: one listener for each name and port, on the name's own address. Only exact names
 * have listeners before they are asked for; those below a wildcard get theirs when their address is given out.
 *
 * A service that listens on all addresses of the same port would be in the way, and the other way round, which is why
 * the configuration is refused where both are known (host/config/egress-spec.ts).
 */
import { createServer, type Server, type Socket } from "node:net";

import { isErrno } from "../../core/errors.ts";
import type { Log } from "../../core/log.ts";
import type { NameTable } from "../names/name-table.ts";
import { toIpv6Form } from "../names/name-table.ts";
import type { EgressPolicy } from "../policy/egress-policy.ts";
import type { Destination } from "./redirect-listener.ts";

export interface NameListenersOptions {
  readonly policy: () => EgressPolicy;
  readonly names: NameTable;
  readonly log: Log;
  readonly onConnection: (socket: Socket, destination: Destination) => void;
}

const BACKLOG = 511;
/** Of one name: a range of all ports would be 65,535 listeners. */
const MAX_PORTS_OF_NAME = 64;
const MAX_LISTENERS = 4096;

export class NameListeners implements AsyncDisposable {
  readonly #options: NameListenersOptions;
  readonly #servers = new Map<string, Server>();

  constructor(options: NameListenersOptions) {
    this.#options = options;
  }

  get places(): readonly Destination[] {
    return [...this.#servers.keys()].map((key) => {
      const at = key.lastIndexOf(" ");
      return { address: key.slice(0, at), port: Number(key.slice(at + 1)) };
    });
  }

  /** Listens for every exact name of the policy. */
  async openExactNames(): Promise<void> {
    for (const name of this.#options.policy().exactNames()) await this.openName(name);
  }

  /** Before the address is told to anybody. */
  async openName(name: string): Promise<void> {
    const address = await this.#options.names.addressOf(name);
    if (address === undefined) return;
    for (const port of this.#portsOf(name))
      for (const place of [address, toIpv6Form(address)]) await this.#open(place, port);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of this.#servers.values()) server.close();
    this.#servers.clear();
    await Promise.resolve();
  }

  #portsOf(name: string): number[] {
    const policy = this.#options.policy();
    const ports = new Set<number>();
    for (const { action, host, ports: ranges } of policy.rules) {
      if (action !== "allow" || host === undefined) continue;
      for (const { from, to } of ranges)
        for (let port = from; port <= to && ports.size <= MAX_PORTS_OF_NAME; port += 1)
          if (policy.decide({ kind: "name", host: name, port }).verdict === "allow") ports.add(port);
    }
    if (ports.size > MAX_PORTS_OF_NAME)
      this.#options.log.warn("this kernel does not redirect: not all ports of the name can be reached", {
        name,
        ports: MAX_PORTS_OF_NAME,
      });
    return [...ports].slice(0, MAX_PORTS_OF_NAME);
  }

  async #open(address: string, port: number): Promise<void> {
    const key = `${address} ${port}`;
    if (this.#servers.has(key) || this.#servers.size >= MAX_LISTENERS) return;
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, (socket) =>
      this.#options.onConnection(socket, { address, port }),
    );
    this.#servers.set(key, server);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once("error", reject);
    server.listen({ host: address, port, backlog: BACKLOG }, resolve);
    try {
      await promise;
      server.off("error", reject).on("error", () => undefined);
    } catch (error) {
      this.#servers.delete(key);
      const isMissing = isErrno(error, "EADDRNOTAVAIL") || isErrno(error, "EAFNOSUPPORT");
      const reason = isErrno(error) ? error.code : String(error);
      if (!isMissing) this.#options.log.warn("cannot listen for a name", { address, port, reason });
    }
  }
}
