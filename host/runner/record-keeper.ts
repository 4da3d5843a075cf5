/** Keeps the record on disk at the newest state: writes one after another, and skips those that came too late. */
import { isDeepStrictEqual } from "node:util";

import type { Log } from "../../core/log.ts";
import type { EnclaveRecord } from "../state/enclave-record.ts";

export interface RecordKeeperOptions {
  readonly first: EnclaveRecord;
  readonly write: (record: EnclaveRecord) => Promise<void>;
  /** Hears every change, before it is on disk. */
  readonly onChange: (record: EnclaveRecord) => void;
  readonly log: Log;
}

export class RecordKeeper {
  readonly #options: RecordKeeperOptions;
  #current: EnclaveRecord;
  #written: EnclaveRecord | undefined;
  #writing: Promise<void> | undefined;

  constructor(options: RecordKeeperOptions) {
    this.#options = options;
    this.#current = options.first;
  }

  get current(): EnclaveRecord {
    return this.#current;
  }

  update(change: Partial<EnclaveRecord>): void {
    const next = { ...this.#current, ...change };
    if (isDeepStrictEqual(next, this.#current)) return;
    this.#current = next;
    this.#options.onChange(next);
    this.#writing ??= this.#writeNewest();
  }

  /** Resolves once the newest record is on disk. */
  async flush(): Promise<void> {
    await (this.#writing ??= this.#writeNewest());
  }

  async #writeNewest(): Promise<void> {
    try {
      while (this.#written !== this.#current) {
        const record = this.#current;
        await this.#options.write(record);
        this.#written = record;
      }
    } catch (error) {
      this.#options.log.error("the record cannot be written", { reason: String(error) });
    } finally {
      this.#writing = undefined;
    }
  }
}
