/**
 * The headers of a cpio archive in "newc" form (SVR4 without checksum), which Linux unpacks into its first file system.
 *
 *   archive   entry... trailer; an entry is a header, a name and a body, and each part begins at a multiple of 4
 *   header    110 bytes: "070701", then 13 numbers of 8 hex digits:
 *             inode, mode, uid, gid, nlink, mtime, size of the body, device major and minor,
 *             rdev major and minor, size of the name with its NUL, checksum (0)
 *   name      with a NUL at the end, zeros up to a multiple of 4
 *   body      content of a file, or the target of a symbolic link; zeros up to a multiple of 4
 *   trailer   an entry named "TRAILER!!!"; the names of inodes seen so far are forgotten
 *
 * Names of one file have the same inode and device and an nlink of at least 2. One of them has the content; Linux
 * takes it from any, GNU cpio wants it with the last. "070702" is the same with the sum of a file's bytes as checksum.
 * Source: Documentation/driver-api/early-userspace/buffer-format.rst and init/initramfs.c of Linux.
 */

export const NEWC_HEADER_BYTES = 110;
/** Linux's PATH_MAX: of a name with its NUL. Longer names are passed over by the kernel without a word. */
export const MAX_NEWC_NAME_BYTES = 4096;
/** What 8 hex digits can say. */
export const MAX_NEWC_NUMBER = 0xff_ff_ff_ff;

export const NEWC_TRAILER = "TRAILER!!!";

export type NewcType = "directory" | "file" | "symlink" | "character" | "block" | "fifo" | "socket";

/** Makes the error for an archive that is not taken. */
export type NewcRefusal = (why: string, cause?: unknown) => Error;

const FILE_TYPES = {
  fifo: 0o01_0000,
  character: 0o02_0000,
  directory: 0o04_0000,
  block: 0o06_0000,
  file: 0o10_0000,
  symlink: 0o12_0000,
  socket: 0o14_0000,
} as const satisfies Record<NewcType, number>;
const TYPES_BY_BITS: ReadonlyMap<number, NewcType> = new Map(
  (["fifo", "character", "directory", "block", "file", "symlink", "socket"] as const).map((type) => [
    FILE_TYPES[type],
    type,
  ]),
);
const TYPE_MASK = 0o17_0000;
const PERMISSION_MASK = 0o7777;
const FIELDS = 13;
const FIELD_BYTES = 8;
const MAGIC_BYTES = 6;
const MAGIC = "070701";
const MAGIC_WITH_CHECKSUM = "070702";

/** What a header says of the thing itself. All numbers have at most 32 bits. */
export interface NewcAttributes {
  readonly type: NewcType;
  /** Permission, setuid, setgid and sticky bits (07777). */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly inode: number;
  readonly nlink: number;
  /** Seconds since 1970. */
  readonly mtime: number;
  /** Of the body. */
  readonly sizeBytes: number;
  readonly rdevMajor: number;
  readonly rdevMinor: number;
}

/** Zeros between something that ends at `position` and what comes next. */
export function newcPadding(position: number): number {
  return -position & 3;
}

/**
 * Header and name with their padding; the body follows. The device is 0:0.
 * @throws RangeError for a number, a mode or a name that newc cannot say: the caller checks these before.
 */
export function encodeNewcHead(name: Uint8Array, attributes: NewcAttributes): Buffer {
  const { type, mode, uid, gid, inode, nlink, mtime, sizeBytes, rdevMajor, rdevMinor } = attributes;
  if ((mode & PERMISSION_MASK) !== mode) throw new RangeError(`not a mode: ${mode}`);
  const typeAndMode = FILE_TYPES[type] | mode;
  return encodeHead(name, [
    inode,
    typeAndMode,
    uid,
    gid,
    nlink,
    mtime,
    sizeBytes,
    0,
    0,
    rdevMajor,
    rdevMinor,
  ]);
}

/** The last entry of an archive, as GNU cpio writes it. */
export function encodeNewcTrailer(): Buffer {
  return encodeHead(Buffer.from(NEWC_TRAILER), [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
}

/** How many bytes encodeNewcHead makes of a name of this length. */
export function newcHeadBytes(nameBytes: number): number {
  const end = NEWC_HEADER_BYTES + nameBytes + 1;
  return end + newcPadding(end);
}

function encodeHead(name: Uint8Array, numbers: readonly number[]): Buffer {
  if (name.length === 0 || name.length >= MAX_NEWC_NAME_BYTES || name.includes(0))
    throw new RangeError("not a name");
  const digits = [...numbers, name.length + 1, 0].map(hexField).join("");
  const head = Buffer.alloc(newcHeadBytes(name.length));
  head.write(`${MAGIC}${digits}`, "latin1");
  head.set(name, NEWC_HEADER_BYTES);
  return head;
}

function hexField(value: number): string {
  if (!Number.isInteger(value) || value < 0 || value > MAX_NEWC_NUMBER)
    throw new RangeError(`not a number of 32 bits: ${value}`);
  return value.toString(16).padStart(FIELD_BYTES, "0");
}

/** A header as it was read; what it describes is known only with its name. */
export interface NewcHeader extends Omit<NewcAttributes, "type"> {
  /** Undefined if the bits say no type, as in a trailer. */
  readonly type: NewcType | undefined;
  readonly devMajor: number;
  readonly devMinor: number;
  /** With the NUL. */
  readonly nameBytes: number;
  /** Sum of the bytes of the content, modulo 2^32; undefined where the form has none. */
  readonly checksum: number | undefined;
}

/** @param bytes exactly NEWC_HEADER_BYTES. @throws what `refuse` makes. */
export function decodeNewcHeader(bytes: Buffer, refuse: NewcRefusal): NewcHeader {
  const magic = bytes.toString("latin1", 0, MAGIC_BYTES);
  if (magic !== MAGIC && magic !== MAGIC_WITH_CHECKSUM)
    throw refuse(`a header begins with ${JSON.stringify(magic)} instead of "${MAGIC}"`);
  const field = fieldsOf(bytes, refuse);
  const typeAndMode = field(1);
  if (typeAndMode > (TYPE_MASK | PERMISSION_MASK)) throw refuse(`a mode is 0${typeAndMode.toString(8)}`);
  const nameBytes = field(11);
  if (nameBytes < 2 || nameBytes > MAX_NEWC_NAME_BYTES)
    throw refuse(`a name has ${nameBytes} bytes instead of 2 to ${MAX_NEWC_NAME_BYTES}`);
  return {
    inode: field(0),
    type: TYPES_BY_BITS.get(typeAndMode & TYPE_MASK),
    mode: typeAndMode & PERMISSION_MASK,
    uid: field(2),
    gid: field(3),
    nlink: field(4),
    mtime: field(5),
    sizeBytes: field(6),
    devMajor: field(7),
    devMinor: field(8),
    rdevMajor: field(9),
    rdevMinor: field(10),
    nameBytes,
    checksum: magic === MAGIC ? undefined : field(12),
  };
}

/** Exactly eight hex digits each: programs disagree about signs, spaces and "0x". */
function fieldsOf(bytes: Buffer, refuse: NewcRefusal): (index: number) => number {
  const digits = bytes.toString("latin1", MAGIC_BYTES, MAGIC_BYTES + FIELDS * FIELD_BYTES);
  if (!/^[0-9A-Fa-f]{104}$/.test(digits)) throw refuse("a number in a header is not eight hex digits");
  return (index) => Number.parseInt(digits.slice(index * FIELD_BYTES, (index + 1) * FIELD_BYTES), 16);
}
