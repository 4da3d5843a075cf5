/**
 * What a document of the toolkit was made for. The enclave never puts a caller's bytes into `user_data` as they are:
 * whoever could choose them would get a genuine document that says what he likes, for example that his key is the enclave's.
 *
 *   user_data = version (1 byte, 1) | tag of the purpose (1 byte) | SHA-256 over the canonical CBOR of {data, purpose}
 */
export const USER_DATA_VERSION = 1;

/** Purpose to its tag. A tag is never used for another purpose. */
export const PURPOSES = {
  /** `data` is the SPKI of the key of a TLS certificate. */
  "ra-tls": 1,
  /** `data` is what a caller wants to be said. */
  statement: 2,
  /** Reserved: keys to which a key service encrypts. */
  kms: 3,
  /** Reserved: the channel of operators. */
  control: 4,
  /** Reserved: digests of files. */
  files: 5,
  /** Reserved: checkpoints of an audit log. */
  audit: 6,
} as const;

export type Purpose = keyof typeof PURPOSES;

export const USER_DATA_BYTES = 34;
