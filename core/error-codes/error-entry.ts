/** Exit statuses of every program of the toolkit (docs/errors.md lists them). */
export const EXIT = {
  ok: 0,
  /** A fault of the toolkit itself, or one without a better status. */
  failure: 1,
  /** Command line or configuration refused. */
  usage: 2,
  /** Attestation evidence is bad. */
  badEvidence: 3,
  /** Evidence is good but not what the policy asks for. */
  unmetPolicy: 4,
  /** The named enclave, service or file does not exist. */
  notFound: 5,
  /** Something is in the way: a name, a port, a running enclave. */
  conflict: 6,
  /** This machine lacks something the command needs. */
  environment: 7,
  /** Out of memory or disk. */
  resources: 8,
  /** The enclave or one of its services failed. */
  enclaveFailed: 9,
  /** A deadline passed. */
  deadline: 124,
  /** Interrupted by the operator. */
  interrupted: 130,
} as const;

export interface ErrorEntry {
  readonly exit: (typeof EXIT)[keyof typeof EXIT];
  /** One sentence: when this is said. */
  readonly meaning: string;
  /** One sentence: what to do. */
  readonly hint: string;
}
