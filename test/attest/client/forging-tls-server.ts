/**
 * A TLS 1.3 server in as few lines as RFC 8446 allows, because no library shows a certificate whose key it does not have:
 * one cipher (TLS_AES_128_GCM_SHA256), one group (X25519), one signature (ecdsa_secp256r1_sha256), one flight.
 */
import {
  createCipheriv,
  createHash,
  createHmac,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
} from "node:crypto";
import type { Socket } from "node:net";

export interface ForgedIdentity {
  /** DER. */
  readonly certificate: Uint8Array;
  /** Signs the handshake, whether it is the certificate's or not. */
  readonly privateKey: KeyObject;
}

const RECORD = { changeCipherSpec: 20, handshake: 22, applicationData: 23 } as const;
const MESSAGE = {
  serverHello: 2,
  encryptedExtensions: 8,
  certificate: 11,
  certificateVerify: 15,
  finished: 20,
} as const;
const X25519 = 0x001d;
const KEY_SHARE = 51;
const SUPPORTED_VERSIONS = 43;
const X25519_SPKI = Buffer.from("302a300506032b656e032100", "hex");
const EMPTY = Buffer.alloc(0);

/** Answers one ClientHello with everything that a server says; what comes after is the caller's to look at. */
export function answerClientHello(socket: Socket, record: Buffer, identity: ForgedIdentity): void {
  const clientHello = record.subarray(5);
  const { sessionId, share } = readClientHello(clientHello);
  const pair = generateKeyPairSync("x25519");
  const ownShare = pair.publicKey.export({ type: "spki", format: "der" }).subarray(X25519_SPKI.length);
  const clientKey = createPublicKey({
    key: Buffer.concat([X25519_SPKI, share]),
    format: "der",
    type: "spki",
  });
  const secret = diffieHellman({ privateKey: pair.privateKey, publicKey: clientKey });
  const serverHello = message(MESSAGE.serverHello, [
    Buffer.from("0303", "hex"),
    randomBytes(32),
    vector(1, sessionId),
    Buffer.from("130100", "hex"),
    vector(2, [
      extension(SUPPORTED_VERSIONS, Buffer.from("0304", "hex")),
      extension(KEY_SHARE, Buffer.concat([u16(X25519), vector(2, ownShare)])),
    ]),
  ]);
  const traffic = handshakeSecret(secret, [clientHello, serverHello]);
  const said = [clientHello, serverHello];
  const flight = makeFlight(said, traffic, identity);
  socket.write(plainRecord(RECORD.handshake, serverHello));
  socket.write(plainRecord(RECORD.changeCipherSpec, Buffer.of(1)));
  socket.write(sealRecord(flight, traffic));
}

function makeFlight(said: Buffer[], traffic: Buffer, { certificate, privateKey }: ForgedIdentity): Buffer {
  const from = said.length;
  said.push(message(MESSAGE.encryptedExtensions, [vector(2, EMPTY)]));
  const entry = [vector(3, Buffer.from(certificate)), vector(2, EMPTY)];
  said.push(message(MESSAGE.certificate, [vector(1, EMPTY), vector(3, entry)]));
  const content = Buffer.concat([
    Buffer.alloc(64, 0x20),
    Buffer.from("TLS 1.3, server CertificateVerify\0"),
    digest(said),
  ]);
  const signature = sign("sha256", content, privateKey);
  said.push(message(MESSAGE.certificateVerify, [Buffer.from("0403", "hex"), vector(2, signature)]));
  const finishedKey = expandLabel(traffic, "finished", EMPTY, 32);
  said.push(message(MESSAGE.finished, [createHmac("sha256", finishedKey).update(digest(said)).digest()]));
  return Buffer.concat(said.slice(from));
}

function readClientHello(hello: Buffer): { readonly sessionId: Buffer; readonly share: Buffer } {
  let at = 4 + 2 + 32;
  const take = (width: number): Buffer => {
    const length = hello.readUIntBE(at, width);
    at += width + length;
    return hello.subarray(at - length, at);
  };
  const sessionId = take(1);
  take(2);
  take(1);
  const extensions = take(2);
  const shares = readPairs(extensions).get(KEY_SHARE)?.subarray(2) ?? EMPTY;
  const share = readPairs(shares).get(X25519);
  if (share === undefined) throw new Error("the client offers no X25519");
  return { sessionId, share };
}

/** Items of a 16-bit name and a value with a 16-bit length. */
function readPairs(bytes: Buffer): ReadonlyMap<number, Buffer> {
  const pairs = new Map<number, Buffer>();
  for (let at = 0; at + 4 <= bytes.length; at += 4 + bytes.readUInt16BE(at + 2)) {
    pairs.set(bytes.readUInt16BE(at), bytes.subarray(at + 4, at + 4 + bytes.readUInt16BE(at + 2)));
  }
  return pairs;
}

function handshakeSecret(shared: Buffer, hellos: readonly Buffer[]): Buffer {
  const zeros = Buffer.alloc(32);
  const early = createHmac("sha256", zeros).update(zeros).digest();
  const derived = expandLabel(early, "derived", digest([]), 32);
  const secret = createHmac("sha256", derived).update(shared).digest();
  return expandLabel(secret, "s hs traffic", digest(hellos), 32);
}

/** HKDF-Expand-Label; node:crypto has HKDF only with its first step, so the second is written out for one block. */
function expandLabel(secret: Buffer, label: string, context: Buffer, sizeBytes: number): Buffer {
  const info = Buffer.concat([
    u16(sizeBytes),
    vector(1, Buffer.from(`tls13 ${label}`)),
    vector(1, context),
    Buffer.of(1),
  ]);
  return createHmac("sha256", secret).update(info).digest().subarray(0, sizeBytes);
}

function sealRecord(content: Buffer, traffic: Buffer): Buffer {
  const plain = Buffer.concat([content, Buffer.of(RECORD.handshake)]);
  const head = Buffer.concat([Buffer.of(RECORD.applicationData, 3, 3), u16(plain.length + 16)]);
  const key = expandLabel(traffic, "key", EMPTY, 16);
  const cipher = createCipheriv("aes-128-gcm", key, expandLabel(traffic, "iv", EMPTY, 12));
  cipher.setAAD(head);
  return Buffer.concat([head, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
}

function plainRecord(type: number, content: Buffer): Buffer {
  return Buffer.concat([Buffer.of(type, 3, 3), vector(2, content)]);
}

function message(type: number, parts: readonly Buffer[]): Buffer {
  return Buffer.concat([Buffer.of(type), vector(3, parts)]);
}

function extension(type: number, value: Buffer): Buffer {
  return Buffer.concat([u16(type), vector(2, value)]);
}

function vector(width: number, content: Buffer | readonly Buffer[]): Buffer {
  const bytes = Buffer.isBuffer(content) ? content : Buffer.concat([...content]);
  const length = Buffer.alloc(width);
  length.writeUIntBE(bytes.length, 0, width);
  return Buffer.concat([length, bytes]);
}

function u16(value: number): Buffer {
  return Buffer.of(value >> 8, value & 0xff);
}

function digest(messages: readonly Buffer[]): Buffer {
  return createHash("sha256").update(Buffer.concat(messages)).digest();
}
