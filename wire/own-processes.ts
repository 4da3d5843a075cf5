/** Processes of the toolkit inside an enclave, by the names under which their output is kept; no service may have one. */
export const OWN_PROCESSES = ["gateway", "ra-server", "nsm-device"] as const;
export type OwnProcessName = (typeof OWN_PROCESSES)[number];

export function isOwnProcess(name: string): name is OwnProcessName {
  return OWN_PROCESSES.some((own) => own === name);
}
