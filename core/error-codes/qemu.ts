import { EXIT, type ErrorEntry } from "./error-entry.ts";

/** Enclave images in a virtual machine. */
export const QEMU_ERRORS = {
  E_QEMU_UNUSABLE: {
    exit: EXIT.environment,
    meaning: "No QEMU of this machine, nor Debian's, can run an enclave image.",
    hint: "Install qemu-system-x86 7.2 or newer, or build on a machine whose apt sources have it.",
  },
} as const satisfies Record<string, ErrorEntry>;
