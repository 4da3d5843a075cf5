/**
 * Headers of a tar archive that say more about the members after them.
 *
 *   x   pax records for the next member            L   GNU: long name of the next member
 *   g   pax records for all members that follow    K   GNU: long link name of the next member
 *
 * Refused, because readers take it differently: the same kind twice before one member (some merge, some use the last);
 * names, link names and sizes for all members (GNU tar obeys, container engines ignore them); sparse files (the name
 * and size of their header are not those of the file). Records that mean nothing here are not kept, so that an archive
 * cannot fill the memory with them.
 */
import { decodePaxRecords } from "./pax-records.ts";
import type { TarRefusal } from "./tar-header.ts";

/** Of one header. */
export const MAX_EXTENSION_BYTES = 1024 * 1024;
const MAX_GLOBAL_RECORDS = 64;

export const XATTR_PREFIX = "SCHILY.xattr.";
const SPARSE_PREFIX = "GNU.sparse.";
const OF_ONE_MEMBER = ["path", "linkpath", "size"];
const KEPT = [...OF_ONE_MEMBER, "uid", "gid", "mtime"];

/** True for the types above; all others are members. */
export function isExtension(type: string): boolean {
  return type === "x" || type === "g" || type === "L" || type === "K";
}

/** What the extension headers read so far say. `add` throws what `refuse` makes. */
export class TarExtensions {
  readonly #refuse: TarRefusal;
  readonly #globals = new Map<string, Buffer>();
  #locals = new Map<string, Buffer>();
  /** Types seen since the last member. */
  #seen = new Set<string>();

  constructor(refuse: TarRefusal) {
    this.#refuse = refuse;
  }

  /** True if a member has yet to come to which a header belongs. */
  get isPending(): boolean {
    return this.#seen.size > 0;
  }

  add(type: string, content: Buffer): void {
    if (type === "g") return this.#addGlobals(content);
    if (this.#seen.has(type)) throw this.#refuse(`a member has two extension headers ${type}`);
    this.#seen.add(type);
    if (type === "L") this.#locals.set("path", untilNul(content));
    else if (type === "K") this.#locals.set("linkpath", untilNul(content));
    else for (const [key, value] of this.#keptRecords(content)) this.#locals.set(key, value);
  }

  /** What holds for the member at hand, by pax's keys; the next one starts anew. */
  takeForMember(): ReadonlyMap<string, Buffer> {
    const all = new Map([...this.#globals, ...this.#locals]);
    this.#locals = new Map();
    this.#seen = new Set();
    return all;
  }

  #addGlobals(content: Buffer): void {
    for (const [key, value] of this.#keptRecords(content)) {
      if (OF_ONE_MEMBER.includes(key))
        throw this.#refuse(`a global extension header says ${key} of all members`);
      // A copy: the record is kept for long and must not keep its whole header.
      this.#globals.set(key, Buffer.from(value));
    }
    if (this.#globals.size > MAX_GLOBAL_RECORDS)
      throw this.#refuse(`global extension headers have more than ${MAX_GLOBAL_RECORDS} records`);
  }

  #keptRecords(content: Buffer): [string, Buffer][] {
    const records = [...decodePaxRecords(content, this.#refuse)];
    if (records.some(([key]) => key.startsWith(SPARSE_PREFIX)))
      throw this.#refuse("sparse members are not taken");
    return records.filter(([key]) => KEPT.includes(key) || key.startsWith(XATTR_PREFIX));
  }
}

function untilNul(content: Buffer): Buffer {
  const end = content.indexOf(0);
  return end < 0 ? content : content.subarray(0, end);
}
