import { EXIT, type ErrorEntry } from "./error-entry.ts";

export const GENERAL_ERRORS = {
  E_INTERNAL: {
    exit: EXIT.failure,
    meaning: "A fault of the toolkit itself, or a system error that has no code of its own.",
    hint: "Run again with --verbose and report the message with its cause.",
  },
  E_CANCELLED: {
    exit: EXIT.interrupted,
    meaning: "The operator interrupted the command.",
    hint: "Run the command again; nothing half-made was left.",
  },
  E_DEADLINE: {
    exit: EXIT.deadline,
    meaning: "Something did not happen within its time limit.",
    hint: "Look at `pipeline logs` and `pipeline status` for what it was waiting for.",
  },
  E_DISK_FULL: {
    exit: EXIT.resources,
    meaning: "A file system has no space left.",
    hint: "Free space, or move the state with --state-dir and the cache with --cache-dir.",
  },
  E_USAGE: {
    exit: EXIT.usage,
    meaning: "The command line is not understood.",
    hint: "See --help of the command.",
  },
} as const satisfies Record<string, ErrorEntry>;
