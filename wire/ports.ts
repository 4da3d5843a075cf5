/** Every vsock port of the toolkit. Host and enclave read them from here and nowhere else. */
export const VSOCK_PORT = {
  /** Host listens: boot heartbeat, one byte 0xB7 each way (AWS's). */
  heartbeat: 9000,
  /** Enclave listens: control API, HTTP/1.1 and JSON. */
  control: 9001,
  /** Host listens: development NSM. */
  developmentNsm: 9002,
  /** Host listens: one bounded line from init (wire/init-line.ts). */
  initReport: 9003,
  /** Enclave listens: remote attestation HTTPS. */
  attestation: 8443,
  /** Enclave listens: ingress, a preface naming the service port, then raw bytes (wire/ingress-preface.ts). */
  ingress: 8444,
  /** Host listens: egress, a preface naming host and port, then raw bytes. */
  egress: 8445,
} as const;

/** The byte that init sends and expects back on the heartbeat port. */
export const HEARTBEAT_BYTE = 0xb7;
