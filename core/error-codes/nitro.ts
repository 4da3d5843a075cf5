import { EXIT, type ErrorEntry } from "./error-entry.ts";

/** Enclaves on the hardware, through nitro-cli. */
export const NITRO_ERRORS = {
  E_NITRO_MISSING: {
    exit: EXIT.environment,
    meaning: "nitro-cli is not on this machine, or cannot be run.",
    hint: "On Amazon Linux 2023: `sudo dnf install aws-nitro-enclaves-cli`; elsewhere use another backend.",
  },
  E_NITRO_CLI: {
    exit: EXIT.environment,
    meaning: "nitro-cli refused; the message has its code.",
    hint: "`nitro-cli explain --error-code CODE` tells more, and `pipeline doctor` checks what it needs.",
  },
  E_NITRO_ACCESS: {
    exit: EXIT.environment,
    meaning: "nitro-cli may not open a device or file that it needs.",
    hint: "Join the group: `sudo usermod -aG ne $USER`, and log in again; `pipeline doctor` checks the rest.",
  },
  E_NITRO_MEMORY: {
    exit: EXIT.resources,
    meaning: "The enclave asks for too little memory for its image, or for more than is reserved.",
    hint: "Correct `resources: { memory }`, or memory_mib in /etc/nitro_enclaves/allocator.yaml.",
  },
  E_NITRO_CPU: {
    exit: EXIT.resources,
    meaning: "The enclave's processors cannot be had from the pool of the machine.",
    hint: "Correct `resources: { cpus, cpu_ids, numa_node }`, or the pool in /etc/nitro_enclaves/allocator.yaml.",
  },
  E_NITRO_BOOT: {
    exit: EXIT.enclaveFailed,
    meaning: "The enclave was started and gave no sign of life.",
    hint: "Boot the same image with `--backend qemu`, which shows its console.",
  },
  E_NITRO_OUTPUT: {
    exit: EXIT.failure,
    meaning: "nitro-cli printed what is not understood.",
    hint: "Report the message with the output of `nitro-cli --version`.",
  },
  E_NITRO_BUSY: {
    exit: EXIT.conflict,
    meaning: "Another launch of an enclave on this machine does not end; two at once disturb each other.",
    hint: "Wait for it, or end it with `pipeline down`.",
  },
  E_NITRO_CID: {
    exit: EXIT.conflict,
    meaning: "A running enclave has the context id already.",
    hint: "`nitro-cli describe-enclaves` lists them; choose another, or none.",
  },
  E_NITRO_PORT: {
    exit: EXIT.conflict,
    meaning: "A vsock port of this host that the enclave needs is in use.",
    hint: "`ss --vsock --listening` shows it. One enclave of this toolkit can run on the hardware at a time.",
  },
  E_NITRO_ENDED: {
    exit: EXIT.enclaveFailed,
    meaning: "The enclave ended without a word from its init.",
    hint: "The hardware shows no more: boot the image with `--backend qemu`, or in debug mode, and look at its console.",
  },
  E_NITRO_LEFT: {
    exit: EXIT.failure,
    meaning: "An enclave could not be terminated and may still run.",
    hint: "Run the command of the message, and `nitro-cli describe-enclaves` to see that it is gone.",
  },
  E_NITRO_DEBUG: {
    exit: EXIT.usage,
    meaning: "A production image would be started in debug mode, where its measurements are zero.",
    hint: "Leave debug mode off, or build the image with `mode: development`.",
  },
} as const satisfies Record<string, ErrorEntry>;
