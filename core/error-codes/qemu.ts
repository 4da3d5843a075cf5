import { EXIT, type ErrorEntry } from "./error-entry.ts";

/** Enclave images in a virtual machine. */
export const QEMU_ERRORS = {
  E_QEMU_UNUSABLE: {
    exit: EXIT.environment,
    meaning: "No QEMU of this machine, nor Debian's, can run an enclave image.",
    hint: "Install qemu-system-x86 7.2 or newer, or build on a machine whose apt sources have it.",
  },
  E_QEMU_MEMORY: {
    exit: EXIT.resources,
    meaning: "The enclave has less memory than its image needs to boot.",
    hint: "Raise `resources: { memory: }` in the enclave.yaml to the number in the message.",
  },
  E_QEMU_PANIC: {
    exit: EXIT.failure,
    meaning: "The kernel of the enclave panicked.",
    hint: "`pipeline console NAME` shows what it said before.",
  },
  E_QEMU_NO_HEARTBEAT: {
    exit: EXIT.failure,
    meaning: "The enclave was started, and its init did not beat the heart in time.",
    hint: "`pipeline console NAME` shows how far it came; a kernel without virtio-mmio and vsock gets no further.",
  },
  E_QEMU_ENDED: {
    exit: EXIT.failure,
    meaning: "The virtual machine ended without a word from its init.",
    hint: "`pipeline console NAME` shows what it said last.",
  },
  E_QEMU_KILLED: {
    exit: EXIT.failure,
    meaning: "Somebody, or the host's kernel for want of memory, killed QEMU.",
    hint: "Start the enclave again; if the host ran out of memory, give the enclave less or the host more.",
  },
  E_QEMU_FAILED: {
    exit: EXIT.environment,
    meaning: "QEMU refused to run the machine.",
    hint: "The message has its own words; `pipeline doctor` checks what QEMU needs.",
  },
  E_QEMU_VSOCK_GUEST: {
    exit: EXIT.enclaveFailed,
    meaning: "The kernel of the enclave uses its vsock device in a way that no driver may.",
    hint: "Its connections cannot go on; start the enclave again, and if it happens again, use another kernel.",
  },
  E_QEMU_VSOCK_FRONT_END: {
    exit: EXIT.environment,
    meaning: "QEMU and the toolkit's vsock device do not understand each other.",
    hint: "The message says what QEMU sent; use QEMU 7.2 or newer.",
  },
} as const satisfies Record<string, ErrorEntry>;
