/** A wire between a client and a server that keeps what the client sends. */
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";

import { portOf } from "../../ra-server/port-of.ts";

export interface TlsRecord {
  readonly type: number;
  readonly sizeBytes: number;
}

const HEADER_BYTES = 5;
const TAG_BYTES = 16;
const TYPE_BYTES = 1;
const FINISHED_HEADER_BYTES = 4;
const APPLICATION_DATA = 23;
/** A client's last word of the handshake under SHA-256 and SHA-384; from then on the bytes are its application's. */
const FINISHED_BYTES = [32, 48].map((hash) => FINISHED_HEADER_BYTES + hash + TYPE_BYTES + TAG_BYTES);
/** Level, description. */
const ALERT_BYTES = 2 + TYPE_BYTES + TAG_BYTES;

export class WireRecorder implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #chunks: Buffer[] = [];

  private constructor(targetPort: number) {
    this.#server = createServer((client) => {
      const upstream = connect(targetPort, "127.0.0.1");
      this.#keep(client, upstream);
      this.#keep(upstream, client);
      client.on("data", (chunk: Buffer) => this.#chunks.push(chunk)).pipe(upstream);
      upstream.pipe(client);
    });
  }

  static async start(targetPort: number): Promise<WireRecorder> {
    const recorder = new WireRecorder(targetPort);
    recorder.#server.listen(0, "127.0.0.1");
    await once(recorder.#server, "listening");
    return recorder;
  }

  get port(): number {
    return portOf(this.#server);
  }

  get url(): string {
    return `https://127.0.0.1:${this.port}`;
  }

  /** Of the client's one connection. */
  records(): readonly TlsRecord[] {
    return splitRecords(Buffer.concat(this.#chunks));
  }

  /** What is neither handshake nor alert, that is, what an application said. */
  applicationRecords(): readonly TlsRecord[] {
    const sealed = this.records().filter(({ type }) => type === APPLICATION_DATA);
    const [first, ...rest] = sealed;
    const isFinished = first !== undefined && FINISHED_BYTES.includes(first.sizeBytes);
    return (isFinished ? rest : sealed).filter(({ sizeBytes }) => sizeBytes !== ALERT_BYTES);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }

  #keep(socket: Socket, other: Socket): void {
    this.#sockets.add(socket);
    socket.on("error", () => other.destroy()).on("close", () => other.end());
  }
}

function splitRecords(bytes: Buffer): readonly TlsRecord[] {
  const records: TlsRecord[] = [];
  for (let at = 0; at + HEADER_BYTES <= bytes.length;) {
    const sizeBytes = bytes.readUInt16BE(at + 3);
    records.push({ type: bytes.readUInt8(at), sizeBytes });
    at += HEADER_BYTES + sizeBytes;
  }
  return records;
}
