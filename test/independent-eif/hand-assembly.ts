/** Images and archives put together byte by byte from the formats' descriptions, right or wrong as a test wants. */
import { crc32 } from "node:zlib";

export interface HandSection {
  readonly type: number;
  readonly data: Buffer;
  readonly flags?: number;
}

export interface HandImage {
  readonly sections: readonly HandSection[];
  readonly version?: number;
  readonly flags?: number;
  /** Changes the header after the table was filled in and before the CRC is made. */
  readonly spoil?: (header: Buffer) => void;
  /** Bytes after the last section, covered by the CRC. */
  readonly trailing?: Buffer;
}

export const TYPES = { kernel: 1, cmdline: 2, ramdisk: 3, signature: 4, metadata: 5 } as const;

export function assembleImage({ sections, version = 4, flags = 0, spoil, trailing }: HandImage): Buffer {
  const header = Buffer.alloc(548);
  header.write(".eif", 0x000, "latin1");
  header.writeUInt16BE(version, 0x004);
  header.writeUInt16BE(flags, 0x006);
  header.writeBigUInt64BE(1_073_741_824n, 0x008);
  header.writeBigUInt64BE(2n, 0x010);
  header.writeUInt16BE(sections.length, 0x01a);
  let position = 548;
  for (const [slot, { data }] of sections.entries()) {
    header.writeBigUInt64BE(BigInt(position), 0x01c + 8 * slot);
    header.writeBigUInt64BE(BigInt(data.length), 0x11c + 8 * slot);
    position += 12 + data.length;
  }
  spoil?.(header);
  const body = Buffer.concat([...sections.flatMap(sectionBytes), trailing ?? Buffer.alloc(0)]);
  header.writeUInt32BE(crc32(body, crc32(header.subarray(0, 544))), 0x220);
  return Buffer.concat([header, body]);
}

function sectionBytes({ type, flags = 0, data }: HandSection): Buffer[] {
  const header = Buffer.alloc(12);
  header.writeUInt16BE(type, 0);
  header.writeUInt16BE(flags, 2);
  header.writeBigUInt64BE(BigInt(data.length), 4);
  return [header, data];
}

export const METADATA = {
  ImageName: "example",
  ImageVersion: "1",
  BuildMetadata: {
    BuildTime: "1970-01-01T00:00:00+00:00",
    BuildTool: "by hand",
    BuildToolVersion: "0",
    OperatingSystem: "Linux",
    KernelVersion: "6.12.1",
  },
  DockerInfo: null,
  CustomMetadata: null,
};

/** Kernel, command line and metadata, as they start every image of version 4. */
export function firstSections(): [kernel: HandSection, cmdline: HandSection, metadata: HandSection] {
  return [
    { type: TYPES.kernel, data: Buffer.from("a kernel") },
    { type: TYPES.cmdline, data: Buffer.from("console=ttyS0 quiet") },
    { type: TYPES.metadata, data: Buffer.from(JSON.stringify(METADATA)) },
  ];
}

export function ramdisk(text: string): HandSection {
  return { type: TYPES.ramdisk, data: Buffer.from(text) };
}

export interface HandEntry {
  readonly name: string | Buffer;
  readonly mode: number;
  readonly data?: Buffer;
  readonly inode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly links?: number;
  readonly mtime?: number;
  readonly node?: readonly [major: number, minor: number];
}

export function assembleArchive(entries: readonly HandEntry[]): Buffer {
  const trailer = { name: "TRAILER!!!", mode: 0, links: 1 };
  return Buffer.concat([...entries, trailer].map(entryBytes));
}

function entryBytes(entry: HandEntry): Buffer {
  const {
    mode,
    data = Buffer.alloc(0),
    inode = 0,
    uid = 0,
    gid = 0,
    links = 1,
    mtime = 0,
    node = [0, 0],
  } = entry;
  const name = Buffer.concat([Buffer.from(entry.name), Buffer.alloc(1)]);
  const fields = [inode, mode, uid, gid, links, mtime, data.length, 0, 0, ...node, name.length, 0];
  const header = `070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`;
  return Buffer.concat([padded(Buffer.concat([Buffer.from(header), name])), padded(data)]);
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
}
