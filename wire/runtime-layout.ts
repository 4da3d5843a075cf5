/**
 * Where the toolkit's own files lie inside every root file system, and the descriptors its processes inherit.
 * native/common/layout.h holds the same constants; a test compares them.
 */
export const RUNTIME = {
  /** Folder of everything below that is ours. */
  directory: "/opt/enclave",
  /** PID 1, static. */
  init: "/opt/enclave/init",
  /** Takes a service's identity, limits and confinement, then becomes its program; static. */
  serviceExec: "/opt/enclave/service-exec",
  /** Makes /dev/nsm in a development guest; static. */
  nsmDevice: "/opt/enclave/nsm-device",
  /** Node's executable. */
  node: "/opt/enclave/bin/node",
  /** Addon for Node: AF_VSOCK sockets. */
  addon: "/opt/enclave/vsock.node",
  /** The dynamic loader and the libraries that Node needs, so that no library of the image is trusted by us. */
  loader: "/opt/enclave/lib/ld.so",
  libraries: "/opt/enclave/lib",
  /** Bundles. */
  supervisor: "/opt/enclave/supervisor.mjs",
  gateway: "/opt/enclave/gateway.mjs",
  /** Loaded by the gateway once ingress listens, and what both have in common. */
  gatewayApi: "/opt/enclave/gateway-api.mjs",
  gatewayShared: "/opt/enclave/gateway-shared.mjs",
  /** The attestation server. */
  raServer: "/opt/enclave/ra-server.mjs",
  /** Copies files in and out; the supervisor starts one for each copy. */
  archive: "/opt/enclave/archive.mjs",
  initctl: "/opt/enclave/initctl.mjs",
  /** Becomes Node with the bundle of the same name; static. */
  initctlProgram: "/opt/enclave/bin/initctl",
  /** Arguments of the supervisor, one per line, at most 4096 bytes: what init executes. */
  supervisorArgv: "/opt/enclave/supervisor.argv",
  /** The measured configuration (wire/enclave-config.ts). */
  config: "/opt/enclave/enclave.json",
  /** Appended to the default PATH of services, so that `node` is found where the image brings none. */
  binaries: "/opt/enclave/bin",
} as const;

/** Descriptors that init gives to the supervisor. */
export const SUPERVISOR_FD = {
  /** Directory of the local backend's vsock sockets; not open where vsock is AF_VSOCK. */
  vsockDirectory: 3,
  /** Write end of a pipe to init: one line `ready` or `fail <CODE> <reason>` (at most 512 bytes). */
  notify: 4,
} as const;

/** uid and gid of the gateway inside the enclave. */
export const GATEWAY_ID = 64001;
/** Of the attestation server, which owns /dev/nsm. */
export const RA_SERVER_ID = 64002;
/** Of the program that is /dev/nsm in a development enclave. */
export const NSM_DEVICE_ID = 64003;
/** Services with `nsm: true` are in this group, which may open /dev/nsm. */
export const NSM_GROUP = 64004;
