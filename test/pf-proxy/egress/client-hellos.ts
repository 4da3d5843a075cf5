/** ClientHellos: what Node's own TLS says, and changes of it. */
import { Duplex } from "node:stream";
import { connect } from "node:tls";

/** The first flight of a real client. */
export async function captureHello(servername?: string): Promise<Buffer> {
  const { promise, resolve } = Promise.withResolvers<Buffer>();
  const socket = new Duplex({
    read: () => undefined,
    write: (chunk: Buffer, _encoding, done) => {
      resolve(chunk);
      done();
    },
  });
  const client = connect({
    socket,
    ...(servername === undefined ? {} : { servername }),
    minVersion: "TLSv1.2",
  });
  client.on("error", () => undefined);
  const hello = await promise;
  client.destroy();
  socket.destroy();
  return hello;
}

/** The same handshake message in records of at most `sizeBytes`. */
export function splitRecords(hello: Buffer, sizeBytes: number): Buffer {
  const body = hello.subarray(5);
  const records: Buffer[] = [];
  for (let at = 0; at < body.length; at += sizeBytes) {
    const fragment = body.subarray(at, at + sizeBytes);
    records.push(Buffer.of(22, 3, 1, fragment.length >> 8, fragment.length & 0xff), fragment);
  }
  return Buffer.concat(records);
}

/** Adds an extension at the end of a ClientHello. */
export function addExtension(hello: Buffer, type: number, data: Buffer): Buffer {
  const extension = Buffer.concat([
    Buffer.of(type >> 8, type & 0xff, data.length >> 8, data.length & 0xff),
    data,
  ]);
  const body = Buffer.from(hello.subarray(5));
  const at = extensionsAt(body);
  body.writeUInt16BE(body.readUInt16BE(at) + extension.length, at);
  const grown = Buffer.concat([body, extension]);
  grown.writeUIntBE(grown.length - 4, 1, 3);
  return Buffer.concat([Buffer.of(22, 3, 1, grown.length >> 8, grown.length & 0xff), grown]);
}

/** Where the length of the extensions stands in a handshake message. */
function extensionsAt(body: Buffer): number {
  let at = 4 + 2 + 32;
  at += 1 + body.readUInt8(at);
  at += 2 + body.readUInt16BE(at);
  return at + 1 + body.readUInt8(at);
}
