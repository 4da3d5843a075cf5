import { EXIT, type ErrorEntry } from "./error-entry.ts";

/** The attestation server, and clients that want its proof before they say anything. */
export const RA_SERVER_ERRORS = {
  E_RA_REQUEST: {
    exit: EXIT.usage,
    meaning: "A request to the attestation server is malformed.",
    hint: "docs/attestation-openapi.json and /v1/openapi.json describe every request.",
  },
  E_RA_NOT_FOUND: {
    exit: EXIT.notFound,
    meaning: "The attestation server has no such route.",
    hint: "docs/attestation-openapi.json lists the routes.",
  },
  E_RA_LIMIT: {
    exit: EXIT.failure,
    meaning: "A client, or all clients together, ask more often than the attestation server answers.",
    hint: "Ask again after the time in `retry-after`; a document can be verified more than once.",
  },
  E_RA_BUSY: {
    exit: EXIT.failure,
    meaning: "More documents are being waited for than the attestation server holds.",
    hint: "Ask again in a second.",
  },
  E_RA_STARTING: {
    exit: EXIT.failure,
    meaning: "The attestation server has no document yet.",
    hint: "Wait until /v1/ready says so.",
  },
  E_RA_CLIENT: {
    exit: EXIT.failure,
    meaning: "A client's certificate is not, or no longer, one of the configured authority.",
    hint: "Use a certificate of the authority in `client_ca` that is valid at the time of the enclave's documents.",
  },
  E_RA_ANSWER: {
    exit: EXIT.failure,
    meaning: "What answers at the address does not speak as an attestation server.",
    hint: "Check the address; both ends must be of the same release.",
  },
  E_RA_URL: {
    exit: EXIT.usage,
    meaning: "An attested client was asked for an address that it cannot reach with proof.",
    hint: "Use an https: address of an enclave; other schemes show no certificate.",
  },
  E_RA_CONNECT: {
    exit: EXIT.failure,
    meaning: "An attested client could not connect, or the TLS handshake failed, before anything was proven.",
    hint: "Check that the enclave runs and that its attestation port is published; it speaks TLS 1.3 alone.",
  },
} as const satisfies Record<string, ErrorEntry>;
