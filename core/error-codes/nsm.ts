import { EXIT, type ErrorEntry } from "./error-entry.ts";

/** The Nitro Security Module, the hardware's and the development one. */
export const NSM_ERRORS = {
  E_NSM_NO_DEVICE: {
    exit: EXIT.environment,
    meaning: "An image for the hardware found no Nitro Security Module.",
    hint: "Run it with --backend nitro on an instance with enclaves enabled, or build it with `attestation: { provider: development }`.",
  },
  E_NSM_ACCESS: {
    exit: EXIT.environment,
    meaning: "A process may not open /dev/nsm.",
    hint: "Only the attestation server may, and services with `nsm: true`.",
  },
  E_NSM_TRANSPORT: {
    exit: EXIT.failure,
    meaning: "The NSM did not answer, or not as its protocol has it.",
    hint: "Look at `pipeline logs` and at the runner's log for the reason.",
  },
  E_NSM_MEASUREMENT: {
    exit: EXIT.failure,
    meaning: "The files of a local enclave cannot be measured, so nothing can be proven of them.",
    hint: "The message has the reason; the cache may have lost files: bring the enclave up again.",
  },
  E_NSM_REQUEST: {
    exit: EXIT.failure,
    meaning: "Bytes are no request to an NSM.",
    hint: "Requests are CBOR as in docs/attestation.md's sources.",
  },
  E_NSM_REQUEST_SIZE: {
    exit: EXIT.failure,
    meaning: "A request is larger than the NSM takes (4096 bytes).",
    hint: "Hash what is large, and send the digest.",
  },
  E_NSM_RESPONSE: {
    exit: EXIT.failure,
    meaning: "The NSM's answer is none to what was asked.",
    hint: "Report it with the message; nothing of the answer was used.",
  },
  E_NSM_INVALID_ARGUMENT: {
    exit: EXIT.failure,
    meaning: "The NSM refuses an argument, such as a public key of no bytes.",
    hint: "The message names the request.",
  },
  E_NSM_INVALID_INDEX: {
    exit: EXIT.failure,
    meaning: "There is no such register: they are 0 to 31.",
    hint: "Use 16 to 31 for your own.",
  },
  E_NSM_INVALID_RESPONSE: {
    exit: EXIT.failure,
    meaning: "The NSM says that it made an answer it cannot send.",
    hint: "Try again; report it if it stays.",
  },
  E_NSM_READ_ONLY_INDEX: {
    exit: EXIT.failure,
    meaning: "The register is locked: 0 to 15 are from the boot on.",
    hint: "Use 16 to 31, before they are locked.",
  },
  E_NSM_INVALID_OPERATION: {
    exit: EXIT.failure,
    meaning: "The NSM does not understand the request.",
    hint: "The message names the request.",
  },
  E_NSM_BUFFER_TOO_SMALL: {
    exit: EXIT.failure,
    meaning: "The NSM's answer did not fit.",
    hint: "Report it; the toolkit offers all the room that the device may use.",
  },
  E_NSM_INPUT_TOO_LARGE: {
    exit: EXIT.failure,
    meaning: "A field is longer than the NSM takes: 1024 bytes for user_data, nonce and public_key.",
    hint: "Hash what is large, and send the digest.",
  },
  E_NSM_INTERNAL_ERROR: {
    exit: EXIT.failure,
    meaning: "The NSM failed.",
    hint: "The runner's log has the reason where it is the development NSM; try again.",
  },
  E_DEV_AUTHORITY_ACCESS: {
    exit: EXIT.environment,
    meaning: "The development authority's folder or key belongs to somebody else, or others can read it.",
    hint: "Remove what the message names if others could have read it; a new root is made when it is next needed. A folder can be made yours alone with chmod 700.",
  },
  E_DEV_AUTHORITY_FILE: {
    exit: EXIT.environment,
    meaning: "The development authority's key or certificate cannot be used.",
    hint: "Remove the file that the message names; a new authority is made when it is next needed, with another root.",
  },
} as const satisfies Record<string, ErrorEntry>;
