/** ClientHellos by hand, right and wrong ones. */
export interface HelloShape {
  /** Server names in one server_name extension; none: no extension. */
  readonly names?: readonly string[];
  /** As many server_name extensions with the same names. */
  readonly copies?: number;
  /** Beside it: [type, data]. */
  readonly extensions?: readonly (readonly [number, Buffer])[];
  readonly withoutExtensions?: boolean;
  readonly version?: number;
  readonly sessionBytes?: number;
}

export interface RecordShape {
  /** Bytes of the handshake message in each record; the last size holds for all that follow. */
  readonly sizes?: readonly number[];
  readonly minor?: number;
}

export const EXTENSION = { serverName: 0, padding: 21, encryptedHello: 0xfe0d } as const;

/** The handshake message with its header, without records. */
export function buildHello(shape: HelloShape = {}): Buffer {
  const { names = [], copies = 1, extensions = [], version = 0x0303, sessionBytes = 32 } = shape;
  const named = names.length === 0 ? [] : Array.from({ length: copies }, () => serverNames(names));
  const all = [...named, ...extensions.map(([type, data]) => extension(type, data))];
  const body = Buffer.concat([
    number(version, 2),
    Buffer.alloc(32, 0xa5),
    vector(1, Buffer.alloc(sessionBytes, 0x5a)),
    vector(2, Buffer.from("130113021303c02bc02f", "hex")),
    vector(1, Buffer.of(0)),
    ...(shape.withoutExtensions === true ? [] : [vector(2, Buffer.concat(all))]),
  ]);
  return Buffer.concat([Buffer.of(1), vector(3, body)]);
}

/** As TLS records. */
export function wrapRecords(message: Buffer, { sizes = [1 << 14], minor = 1 }: RecordShape = {}): Buffer {
  const records: Buffer[] = [];
  for (let at = 0, index = 0; at < message.length; index += 1) {
    const size = sizes[Math.min(index, sizes.length - 1)] ?? message.length;
    records.push(Buffer.of(22, 3, minor), vector(2, message.subarray(at, at + size)));
    at += size;
  }
  return Buffer.concat(records);
}

/** A usual ClientHello for `name` in one record. */
export function helloFor(name: string): Buffer {
  return wrapRecords(buildHello({ names: [name], extensions: [[43, Buffer.from("020304", "hex")]] }));
}

export function extension(type: number, data: Buffer): Buffer {
  return Buffer.concat([number(type, 2), vector(2, data)]);
}

export function serverNames(names: readonly string[]): Buffer {
  const list = names.map((name) => Buffer.concat([Buffer.of(0), vector(2, Buffer.from(name, "latin1"))]));
  return extension(EXTENSION.serverName, vector(2, Buffer.concat(list)));
}

export function vector(lengthBytes: number, data: Buffer): Buffer {
  return Buffer.concat([number(data.length, lengthBytes), data]);
}

function number(value: number, sizeBytes: number): Buffer {
  const bytes = Buffer.alloc(sizeBytes);
  bytes.writeUIntBE(value, 0, sizeBytes);
  return bytes;
}
