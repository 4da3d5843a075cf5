import { EXIT, type ErrorEntry } from "./error-entry.ts";

/** Enclave image files that cannot be read, written or signed. */
export const EIF_ERRORS = {
  E_EIF_FILE: {
    exit: EXIT.notFound,
    meaning: "The image file cannot be read or written.",
    hint: "Check the path and its permissions.",
  },
  E_EIF_INVALID: {
    exit: EXIT.badEvidence,
    meaning: "The file is no enclave image, or one that was cut off or damaged.",
    hint: "Fetch or build it again; do not run it.",
  },
  E_EIF_VERSION: {
    exit: EXIT.badEvidence,
    meaning: "The image has a version of the format that is not known here.",
    hint: "Build it with a tool that writes version 4.",
  },
  E_EIF_CRC: {
    exit: EXIT.badEvidence,
    meaning: "The checksum in the image's header is not that of its content.",
    hint: "The file was damaged on its way; fetch or build it again.",
  },
  E_EIF_METADATA: {
    exit: EXIT.badEvidence,
    meaning: "The metadata in the image is not what version 4 of the format demands.",
    hint: "Build the image again; nitro-cli would refuse to describe this one.",
  },
  E_EIF_SIGNATURE: {
    exit: EXIT.badEvidence,
    meaning: "The image's signature is malformed, or is not one of this image by the certificate in it.",
    hint: "Do not run the image; ask who signed it.",
  },
  E_EIF_SIGNING_KEY: {
    exit: EXIT.usage,
    meaning:
      "Certificate or key cannot sign images: no EC key on P-256, P-384 or P-521, or they do not belong together.",
    hint: "Make a pair with `openssl ecparam -name secp384r1 -genkey` and `openssl req -new -x509`.",
  },
  E_EIF_CERTIFICATE_EXPIRED: {
    exit: EXIT.badEvidence,
    meaning:
      "The certificate that signed the image, or is to sign it, is no longer valid; Nitro refuses to boot such an image.",
    hint: "Sign the image again with a certificate that is valid now.",
  },
  E_EIF_CERTIFICATE_NOT_YET_VALID: {
    exit: EXIT.badEvidence,
    meaning: "The certificate's time has not begun.",
    hint: "Check this machine's clock, or wait.",
  },
  E_EIF_NOT_SIGNED: {
    exit: EXIT.unmetPolicy,
    meaning: "A signature was asked for, and the image has none.",
    hint: "Build it with --signing-certificate and --private-key.",
  },
  E_EIF_TOO_LARGE: {
    exit: EXIT.usage,
    meaning: "A part of the image has more bytes than the format or this toolkit allows.",
    hint: "Make the part smaller.",
  },
  E_EIF_COMMAND_LINE: {
    exit: EXIT.usage,
    meaning: "The kernel's command line cannot be put into an image.",
    hint: "Remove NUL characters and halves of surrogate pairs.",
  },
  E_EIF_SOURCE_CHANGED: {
    exit: EXIT.failure,
    meaning: "A prepared part of the image is not what it was when it was prepared.",
    hint: "Something else writes to the cache; remove it and build again.",
  },
} as const satisfies Record<string, ErrorEntry>;
