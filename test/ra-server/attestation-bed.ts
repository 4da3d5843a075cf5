/** An attestation server on a real TCP socket, whose documents come from a development NSM on a real Unix socket. */
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls, type ConnectionOptions, type TLSSocket } from "node:tls";

import type { ClientPolicy } from "../../attest/client/client-policy.ts";
import { openDevelopmentProvider } from "../../attest/nsm/development-provider.ts";
import type { NsmProvider } from "../../attest/nsm/nsm-provider.ts";
import { createLog } from "../../core/log.ts";
import { type DevelopmentAuthority, openDevelopmentAuthority } from "../../dev/development-authority.ts";
import { DevelopmentNsm } from "../../dev/development-nsm.ts";
import { serveDevelopmentNsm } from "../../dev/nsm-server.ts";
import { type AttestationServerOptions, runAttestationServer } from "../../ra-server/attestation-server.ts";
import { KEEPER_TIMING } from "../../ra-server/identity-keeper.ts";
import type { AttestationReport, AttestationServerSettings } from "../../wire/attestation-server.ts";
import { eventually } from "../enclave/eventually.ts";
import { portOf } from "./port-of.ts";

export interface BedOptions {
  /** Registers 0 to 4; others are zero. */
  readonly measurements?: ReadonlyMap<number, Uint8Array>;
  /** The clock of the NSM. */
  readonly nsmNowMs?: () => number;
  readonly nowMs?: () => number;
  readonly clientCa?: string;
  readonly provider?: AttestationServerOptions["provider"];
  readonly server?: Pick<AttestationServerOptions, "timing" | "rates" | "connections">;
  /** An authority of another bed. */
  readonly authority?: DevelopmentAuthority;
}

export const DIGEST_BYTES = 48;
/** Failures are tried again at once. */
export const QUICK_TIMING = {
  ...KEEPER_TIMING,
  backoff: { initialMs: 20, maximumMs: 50, jitter: 0 },
};

export function measured(fill: number): ReadonlyMap<number, Uint8Array> {
  return new Map([0, 1, 2, 4].map((index) => [index, new Uint8Array(DIGEST_BYTES).fill(fill + index)]));
}

export function expected(fill: number): ReadonlyMap<number, string> {
  return new Map([...measured(fill)].map(([index, value]) => [index, Buffer.from(value).toString("hex")]));
}

export class AttestationBed implements AsyncDisposable {
  readonly authority: DevelopmentAuthority;
  readonly reports: AttestationReport[] = [];
  readonly logged: string[] = [];
  readonly #options: BedOptions;
  readonly #directory: string;
  readonly #stop = new AbortController();
  readonly #stack = new AsyncDisposableStack();
  #port = 0;
  #running: Promise<void> = Promise.resolve();

  private constructor(options: BedOptions, authority: DevelopmentAuthority, directory: string) {
    this.#options = options;
    this.authority = authority;
    this.#directory = directory;
  }

  static async start(options: BedOptions = {}): Promise<AttestationBed> {
    const directory = await mkdtemp(join(tmpdir(), "attestation-"));
    const nowMs = options.nsmNowMs ?? Date.now;
    const authority =
      options.authority ??
      (await openDevelopmentAuthority({ directory: join(directory, "authority"), nowMs }));
    const bed = new AttestationBed(options, authority, directory);
    await bed.#serveNsm(nowMs);
    bed.#serve();
    await eventually("the server listens", () => bed.#port !== 0);
    return bed;
  }

  get port(): number {
    return this.#port;
  }

  get url(): string {
    return `https://127.0.0.1:${this.#port}`;
  }

  get report(): AttestationReport | undefined {
    return this.reports.at(-1);
  }

  /** What holds for this bed with its measurements. */
  policy(fill = 1): ClientPolicy {
    return { roots: [this.authority.rootSha256], measurements: [expected(fill)] };
  }

  /** Through the development NSM's socket, as a program in an enclave has it. */
  openProvider(): NsmProvider {
    return openDevelopmentProvider({
      dial: async (signal) => {
        const socket = connect(join(this.#directory, "nsm.sock"));
        await once(socket, "connect", { signal });
        return socket;
      },
    });
  }

  /** A client that believes everything. */
  async connectBlindly(options: ConnectionOptions = {}): Promise<TLSSocket> {
    const socket = connectTls({ host: "127.0.0.1", port: this.#port, rejectUnauthorized: false, ...options });
    await once(socket, "secureConnect");
    return socket;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
    await this.#stack.disposeAsync();
    await rm(this.#directory, { recursive: true, force: true });
  }

  async #serveNsm(nowMs: () => number): Promise<void> {
    const nsm = new DevelopmentNsm({
      authority: this.authority,
      measurements: this.#options.measurements ?? measured(1),
      moduleId: "i-0123456789abcdef0-enc0123456789abcdef",
      nowMs,
      form: "definite",
    });
    const serve = serveDevelopmentNsm({ nsm: async () => nsm, signal: this.#stop.signal });
    const server = createServer(serve).listen(join(this.#directory, "nsm.sock"));
    await once(server, "listening");
    this.#stack.defer(() => void server.close());
  }

  #serve(): void {
    const settings: AttestationServerSettings = {
      name: "signer",
      mode: "development",
      provider: "development",
      clientCa: this.#options.clientCa ?? null,
      image: { toolkit: "0.1.0", config: "c".repeat(64), lock: null },
    };
    this.#running = runAttestationServer({
      settings,
      provider: this.#options.provider ?? (async () => this.openProvider()),
      listen: async (onConnection) => await this.#listen(onConnection),
      report: (report) => this.reports.push(report),
      nowMs: this.#options.nowMs ?? Date.now,
      log: createLog({ write: (line) => this.logged.push(line), now: Date.now }),
      stop: this.#stop.signal,
      timing: QUICK_TIMING,
      ...this.#options.server,
    });
  }

  async #listen(onConnection: (socket: Socket) => void): Promise<AsyncDisposable> {
    const server: Server = createServer({ allowHalfOpen: true }, onConnection);
    server.listen({ host: "127.0.0.1", port: 0, backlog: 511 });
    await once(server, "listening");
    this.#port = portOf(server);
    return { [Symbol.asyncDispose]: async () => void server.close() };
  }
}
