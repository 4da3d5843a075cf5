import { EXIT, type ErrorEntry } from "./error-entry.ts";

const exit = EXIT.badEvidence;
const unmet = EXIT.unmetPolicy;
const FORGED = "Do not believe it: it was damaged or forged, or does not come from an enclave.";

/** Evidence that proves nothing, and evidence that proves something else than was asked for. */
export const ATTESTATION_ERRORS = {
  E_EVIDENCE_MISSING: {
    exit,
    meaning: "A peer shows no attestation document.",
    hint: "Ask the address of an enclave's attestation server; another server has no document to show.",
  },
  E_EVIDENCE_SIZE: {
    exit,
    meaning: "An attestation document, or a part of it, is larger than any that an NSM makes, or empty.",
    hint: "Give the document as the NSM made it: CBOR, neither base64 nor hex nor JSON.",
  },
  E_EVIDENCE_ENCODING: {
    exit,
    meaning: "An attestation document is not CBOR, says a key twice, or has bytes after its end.",
    hint: "Give the document as the NSM made it: CBOR, neither base64 nor hex nor JSON.",
  },
  E_EVIDENCE_COSE: {
    exit,
    meaning: "An attestation document is CBOR, but no COSE_Sign1 message.",
    hint: "Give the whole document as the NSM made it, with its signature.",
  },
  E_EVIDENCE_ALGORITHM: {
    exit,
    meaning: "An attestation document is signed by another algorithm than ES384.",
    hint: "Real and development NSMs sign by ES384; QEMU's own NSM does not sign at all.",
  },
  E_EVIDENCE_PAYLOAD: {
    exit,
    meaning: "The content of an attestation document lacks a field, or has one of a wrong type or size.",
    hint: "Give the document as the NSM made it.",
  },
  E_EVIDENCE_TPM: {
    exit,
    meaning: "The document is of a NitroTPM: an EC2 instance, not an enclave.",
    hint: "Give the document of an enclave; this verifier knows nothing about what a NitroTPM measures.",
  },
  E_EVIDENCE_CERTIFICATE: {
    exit,
    meaning:
      "A certificate of an attestation document cannot be read, or is not of the kind that an NSM uses.",
    hint: FORGED,
  },
  E_EVIDENCE_ROOT: {
    exit,
    meaning: "The root certificate of an attestation document is none of those that are trusted.",
    hint: "Documents of hardware have the root `aws`; those of the development NSM have that of its user, and prove nothing to others.",
  },
  E_EVIDENCE_CHAIN: {
    exit,
    meaning: "The certificates of an attestation document do not vouch for one another.",
    hint: FORGED,
  },
  E_EVIDENCE_VALIDITY: {
    exit,
    meaning: "A certificate of an attestation document is not valid at the time of verification.",
    hint: "A document can be believed for three hours at most: ask for a new one. To look at an old one, give the time when it came.",
  },
  E_EVIDENCE_SIGNATURE: {
    exit,
    meaning: "The signature of an attestation document is wrong.",
    hint: FORGED,
  },
  E_UNMET_DEBUG: {
    exit: unmet,
    meaning: "The document is of an enclave in debug mode: it measures nothing and its console can be read.",
    hint: "Start the enclave without debug mode: in it no image can be proven. `pipeline verify --allow-debug` accepts such a document while developing.",
  },
  E_UNMET_MEASUREMENTS: {
    exit: unmet,
    meaning: "The enclave runs another image than was asked for.",
    hint: "Compare with the measurements of the very image that was started; `pipeline inspect` tells them.",
  },
  E_UNMET_NONCE: {
    exit: unmet,
    meaning:
      "The document does not repeat the nonce: it was made for somebody else's question, or an earlier one.",
    hint: "Ask the enclave anew with a fresh random nonce.",
  },
  E_UNMET_AGE: {
    exit: unmet,
    meaning: "The document is older than was asked for, or from the future.",
    hint: "Ask the enclave anew; if the document is from the future, set this machine's clock.",
  },
  E_UNMET_PURPOSE: {
    exit: unmet,
    meaning: "The document was made for another purpose, or for other data, than was asked for.",
    hint: "Give the purpose and the data for which the document was requested.",
  },
  E_UNMET_USER_DATA: {
    exit: unmet,
    meaning: "The user data of the document is not what was asked for.",
    hint: "Give the user data for which the document was requested.",
  },
  E_UNMET_PUBLIC_KEY: {
    exit: unmet,
    meaning: "The document names another public key than was asked for.",
    hint: "Somebody may be between you and the enclave: do not send it anything.",
  },
} as const satisfies Record<string, ErrorEntry>;
