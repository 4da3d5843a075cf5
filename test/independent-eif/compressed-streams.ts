/**
 * A ramdisk is a run of streams: cpio archives, plain or compressed with gzip or zstd, with zero bytes between them
 * allowed. The kernel unpacks one gzip member or one zstd frame at a time and wants each to end where an archive
 * ends; so the streams are cut apart here by walking their own framing, and each is given back on its own.
 */
import { promisify } from "node:util";
import { crc32, inflateRaw, zstdDecompress } from "node:zlib";

export interface RamdiskStream {
  readonly form: "plain" | "gzip" | "zstd";
  /** Where it starts in the ramdisk. */
  readonly offset: number;
  readonly content: Buffer;
}

interface CutStream {
  readonly form: RamdiskStream["form"];
  readonly content: Buffer;
  /** Bytes of the ramdisk it takes. */
  readonly taken: number;
}

const ZSTD_MAGIC = 0xfd2fb528;

export async function splitStreams(
  ramdisk: Buffer,
  plainEnd: (rest: Buffer) => number,
): Promise<RamdiskStream[]> {
  const streams: RamdiskStream[] = [];
  let offset = 0;
  while (offset < ramdisk.length) {
    if (ramdisk[offset] === 0) {
      offset++;
      continue;
    }
    const { form, content, taken } = await cutOne(ramdisk, offset, plainEnd);
    streams.push({ form, offset, content });
    offset += taken;
  }
  return streams;
}

async function cutOne(
  ramdisk: Buffer,
  offset: number,
  plainEnd: (rest: Buffer) => number,
): Promise<CutStream> {
  const rest = ramdisk.subarray(offset);
  if (rest[0] === 0x30) {
    if (offset % 4 !== 0)
      throw new Error(`a plain archive starts at ${offset}, which is no multiple of four`);
    const taken = plainEnd(rest);
    return { form: "plain", content: rest.subarray(0, taken), taken };
  }
  if (rest.length >= 4 && rest.readUInt32LE(0) === ZSTD_MAGIC) {
    const taken = zstdFrameBytes(rest);
    return { form: "zstd", content: await promisify(zstdDecompress)(rest.subarray(0, taken)), taken };
  }
  if (rest[0] === 0x1f && rest[1] === 0x8b) return cutGzipMember(rest);
  throw new Error(
    `${rest.subarray(0, 6).toString("hex")} at ${offset} starts neither an archive nor gzip nor zstd`,
  );
}

/** RFC 8878, section 3.1.1: frame header, blocks up to the one marked last, optional checksum. */
function zstdFrameBytes(rest: Buffer): number {
  const descriptor = rest.readUInt8(4);
  const single = (descriptor & 0x20) !== 0;
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3] ?? 0;
  const contentSizeBytes = [single ? 1 : 0, 2, 4, 8][descriptor >> 6] ?? 0;
  let position = 5 + (single ? 0 : 1) + dictionaryBytes + contentSizeBytes;
  for (let last = false; !last;) {
    const blockHeader = rest.readUIntLE(position, 3);
    const type = (blockHeader >> 1) & 3;
    if (type === 3) throw new Error("a zstd block has the reserved type");
    last = (blockHeader & 1) === 1;
    position += 3 + (type === 1 ? 1 : blockHeader >> 3);
  }
  if ((descriptor & 4) !== 0) position += 4;
  if (position > rest.length) throw new Error("the last zstd frame is cut short");
  return position;
}

/** RFC 1952: header, one deflate stream, CRC-32 and length of the content. */
async function cutGzipMember(rest: Buffer): Promise<CutStream> {
  const start = gzipHeaderBytes(rest);
  const { content, taken } = await inflateOne(rest.subarray(start));
  const end = start + taken;
  if (rest.length < end + 8) throw new Error("the last gzip member is cut short");
  if (rest.readUInt32LE(end) !== crc32(content)) throw new Error("a gzip member has a wrong CRC-32");
  if (rest.readUInt32LE(end + 4) !== content.length % 2 ** 32)
    throw new Error("a gzip member has a wrong length");
  return { form: "gzip", content, taken: end + 8 };
}

function gzipHeaderBytes(rest: Buffer): number {
  const flags = rest.readUInt8(3);
  let position = 10;
  if ((flags & 4) !== 0) position += 2 + rest.readUInt16LE(position);
  if ((flags & 8) !== 0) position = rest.indexOf(0, position) + 1;
  if ((flags & 16) !== 0) position = rest.indexOf(0, position) + 1;
  if ((flags & 2) !== 0) position += 2;
  return position;
}

async function inflateOne(deflated: Buffer): Promise<{ content: Buffer; taken: number }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ content: Buffer; taken: number }>();
  inflateRaw(deflated, { info: true }, (error, result: unknown) => {
    if (error !== null) return reject(error);
    const { buffer, engine } = result as { buffer: Buffer; engine: { bytesWritten: number } };
    resolve({ content: buffer, taken: engine.bytesWritten });
  });
  return promise;
}
