/** The registers of a module: 0 to 15 are what was measured and locked, 16 to 31 the enclave's own. */
import { createHash } from "node:crypto";

import { NSM_REGISTER_BYTES, NSM_REGISTERS } from "../wire/nsm/nsm-limits.ts";
import { NsmRefused } from "./nsm-refused.ts";

/** Locked when the enclave boots. */
export const BOOT_REGISTERS = 16;

interface Register {
  data: Uint8Array;
  isLocked: boolean;
}

/** Every method throws NsmRefused as QEMU's device does it (hw/virtio/virtio-nsm.c). */
export class RegisterBank {
  readonly #registers: readonly Register[];

  /** @param measurements of 0 to 15, 48 bytes each; those that are absent are zero. @throws RangeError */
  constructor(measurements: ReadonlyMap<number, Uint8Array>) {
    for (const [index, data] of measurements)
      if (
        !Number.isInteger(index) ||
        index < 0 ||
        index >= BOOT_REGISTERS ||
        data.length !== NSM_REGISTER_BYTES
      )
        // prettier-ignore
        throw new RangeError(`a measurement of ${data.length} bytes for register ${index}`);
    this.#registers = Array.from({ length: NSM_REGISTERS }, (_item, index) => ({
      data: Uint8Array.from(measurements.get(index) ?? new Uint8Array(NSM_REGISTER_BYTES)),
      isLocked: index < BOOT_REGISTERS,
    }));
  }

  describe(index: number): { readonly lock: boolean; readonly data: Uint8Array } {
    const { data, isLocked } = this.#at(index);
    return { lock: isLocked, data };
  }

  /** @returns the new value */
  extend(index: number, data: Uint8Array): Uint8Array {
    const register = this.#writable(index);
    register.data = createHash("sha384").update(register.data).update(data).digest();
    return register.data;
  }

  lock(index: number): void {
    this.#writable(index).isLocked = true;
  }

  /** Registers 0 to `range` - 1, also those that are locked. */
  lockRange(range: number): void {
    if (range > NSM_REGISTERS) throw new NsmRefused("InvalidIndex");
    for (const register of this.#registers.slice(0, range)) register.isLocked = true;
  }

  /** Number and value. */
  locked(): readonly (readonly [number, Uint8Array])[] {
    return this.#registers.flatMap(({ data, isLocked }, index) => (isLocked ? [[index, data] as const] : []));
  }

  #at(index: number): Register {
    const register = this.#registers[index];
    if (register === undefined) throw new NsmRefused("InvalidIndex");
    return register;
  }

  #writable(index: number): Register {
    const register = this.#at(index);
    if (register.isLocked) throw new NsmRefused("ReadOnlyIndex");
    return register;
  }
}
