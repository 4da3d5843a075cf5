/**
 * Names and the addresses that stand for them inside the enclave. An address is given to a name once, in the order of the
 * first question, and never to another: programs keep what a resolver told them, some for ever.
 */
import { EGRESS_RANGE, FIRST_NAME_ADDRESS } from "../../wire/egress-addresses.ts";
import { addressBytes, formatAddress, parseAddress } from "../policy/network.ts";
import { NameJournal } from "./name-journal.ts";

export interface NameTableOptions {
  /** Canonical names that have addresses before anybody asks. */
  readonly names: readonly string[];
  /** File in which names keep their addresses across restarts. Absent: addresses are this process's alone. */
  readonly journal?: string;
}

const MAX_NAMES = 65_536;
const FIRST = toNumber(addressBytes(FIRST_NAME_ADDRESS));
const IPV6_PREFIX = addressBytes(EGRESS_RANGE.ipv6).subarray(0, 12);

export class NameTable {
  readonly #journal: NameJournal | undefined;
  readonly #names: string[] = [];
  readonly #indices = new Map<string, number>();
  /** Names that no write has taken yet, in order. */
  #unwritten: string[] = [];
  /** The last write that was begun. */
  #written: Promise<void> = Promise.resolve();
  /** The write after it, which takes everything that comes until it begins. */
  #next: Promise<void> | undefined;

  private constructor(journal: NameJournal | undefined) {
    this.#journal = journal;
  }

  /**
   * Names of earlier runs keep their addresses, whatever the policy was then; names that are new come after them.
   * @throws errno if the journal cannot be read or written
   */
  static async open({ names, journal: path }: NameTableOptions): Promise<NameTable> {
    const earlier = path === undefined ? undefined : await NameJournal.open(path, MAX_NAMES);
    const table = new NameTable(earlier?.journal);
    for (const name of earlier?.names ?? []) table.#add(name);
    table.#unwritten = [];
    await Promise.all(names.map((name) => table.addressOf(name)));
    return table;
  }

  get size(): number {
    return this.#names.length;
  }

  /**
   * IPv4 address of a canonical name, given to it now or earlier; undefined when no more names fit.
   * @throws errno if the journal cannot be written; the name keeps the address, and the next question tries again
   */
  async addressOf(name: string): Promise<string | undefined> {
    const known = this.#indices.get(name);
    if (known === undefined && this.#names.length >= MAX_NAMES) return undefined;
    const index = known ?? this.#add(name);
    await this.#flush();
    return formatAddress(toBytes(FIRST + index));
  }

  /** The name that an address, IPv4 or IPv6 in any spelling, stands for. */
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
    if (this.#journal !== undefined) this.#unwritten.push(name);
    return index;
  }

  /** Until every name so far is in the journal. */
  async #flush(): Promise<void> {
    if (this.#unwritten.length > 0) {
      this.#next ??= this.#write(this.#written);
      this.#written = this.#next;
    }
    await this.#written;
  }

  /** One write at a time; names of a failed one go with the next, before the others. */
  async #write(before: Promise<void>): Promise<void> {
    await before.catch(() => undefined);
    this.#next = undefined;
    const names = this.#unwritten;
    this.#unwritten = [];
    try {
      await this.#journal?.append(names);
    } catch (error) {
      this.#unwritten = [...names, ...this.#unwritten];
      throw error;
    }
  }
}

/** The IPv6 address that stands for the same name. */
export function toIpv6Form(ipv4: string): string {
  return formatAddress(Uint8Array.from([...IPV6_PREFIX, ...addressBytes(ipv4)]));
}

function toNumber(bytes: Uint8Array): number {
  return Buffer.from(bytes).readUInt32BE();
}

function toBytes(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
