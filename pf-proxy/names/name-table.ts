/**
 * Names and the addresses that stand for them inside the enclave. An address is given to a name once, in the order of the
 * first question, and never to another: programs keep what a resolver told them, some for ever.
 *
 * The journal, one name a line in that order, lets the next gateway of the same enclave give the same addresses. It lies
 * in the enclave's memory and ends with it.
 */
import { appendFile, readFile } from "node:fs/promises";

import { isErrno } from "../../core/errors.ts";
import { EGRESS_RANGE, FIRST_NAME_ADDRESS } from "../../wire/egress-addresses.ts";
import { addressBytes, formatAddress, parseAddress } from "../policy/network.ts";
import { canonicalHostName } from "../policy/host-name.ts";

export interface NameTableOptions {
  /** Names that have addresses before anybody asks. */
  readonly names: readonly string[];
  /** Absent: addresses are this process's alone. */
  readonly journal?: string;
}

const MAX_NAMES = 65_536;
const MAX_JOURNAL_BYTES = 17 * 1024 * 1024;
const FIRST = toNumber(addressBytes(FIRST_NAME_ADDRESS));
const IPV6_PREFIX = addressBytes(EGRESS_RANGE.ipv6).subarray(0, 12);

export class NameTable {
  readonly #journal: string | undefined;
  readonly #names: string[] = [];
  readonly #indices = new Map<string, number>();
  /** Settles when the names so far are in the journal. */
  #written: Promise<void> = Promise.resolve();
  #unwritten: string[] = [];

  private constructor(journal: string | undefined) {
    this.#journal = journal;
  }

  /** @throws errno if the journal cannot be written */
  static async open({ names, journal }: NameTableOptions): Promise<NameTable> {
    const table = new NameTable(journal);
    for (const name of journal === undefined ? [] : await readJournal(journal)) table.#add(name);
    table.#unwritten = [];
    for (const name of names) await table.addressOf(name);
    return table;
  }

  get size(): number {
    return this.#names.length;
  }

  /** IPv4 address of a canonical name; undefined when no more names fit. @throws errno if the journal cannot be written */
  async addressOf(name: string): Promise<string | undefined> {
    const known = this.#indices.get(name);
    if (known === undefined && this.#names.length >= MAX_NAMES) return undefined;
    const index = known ?? this.#add(name);
    await this.#flush();
    return formatAddress(toBytes(FIRST + index));
  }

  /** The name that an address, IPv4 or IPv6, stands for. */
  nameAt(address: string): string | undefined {
    const canonical = parseAddress(address);
    if (canonical === undefined) return undefined;
    const bytes = addressBytes(canonical);
    if (bytes.length === 4) return this.#names[toNumber(bytes) - FIRST];
    if (Buffer.compare(bytes.subarray(0, 12), IPV6_PREFIX) !== 0) return undefined;
    return this.#names[toNumber(bytes.subarray(12)) - FIRST];
  }

  #add(name: string): number {
    const index = this.#names.push(name) - 1;
    this.#indices.set(name, index);
    this.#unwritten.push(name);
    return index;
  }

  /** One write at a time, of everything that came meanwhile. */
  async #flush(): Promise<void> {
    const journal = this.#journal;
    if (this.#unwritten.length > 0 && journal !== undefined) {
      this.#written = this.#append(journal, this.#written);
    }
    await this.#written;
  }

  async #append(journal: string, before: Promise<void>): Promise<void> {
    await before.catch(() => undefined);
    const names = this.#unwritten;
    this.#unwritten = [];
    if (names.length > 0) await appendFile(journal, names.map((name) => `${name}\n`).join(""));
  }
}

/** The IPv6 address that stands for the same name. */
export function toIpv6Form(ipv4: string): string {
  return formatAddress(Uint8Array.from([...IPV6_PREFIX, ...addressBytes(ipv4)]));
}

/** What comes after anything that is no line of ours is not believed: a torn end is the end. */
async function readJournal(path: string): Promise<readonly string[]> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  }
  const names = new Set<string>();
  const lines = text.slice(0, MAX_JOURNAL_BYTES).split("\n").slice(0, -1);
  for (const line of lines) {
    if (!isCanonical(line) || names.has(line) || names.size >= MAX_NAMES) break;
    names.add(line);
  }
  return [...names];
}

function isCanonical(name: string): boolean {
  try {
    return canonicalHostName(name) === name;
  } catch {
    return false;
  }
}

function toNumber(bytes: Uint8Array): number {
  return Buffer.from(bytes).readUInt32BE();
}

function toBytes(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
