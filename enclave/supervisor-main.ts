/** The supervisor as a program: what init starts inside the enclave. */
import { createLog } from "../core/log.ts";
import { GATEWAY_ID, RA_SERVER_ID, RUNTIME, SUPERVISOR_FD } from "../wire/runtime-layout.ts";
import { runSupervisor } from "./boot.ts";
import { holdSockets } from "./held-sockets.ts";
import { isDirectory } from "../native/vsock-form.ts";

const log = createLog({
  write: (line) => process.stderr.write(line),
  now: () => Date.now(),
  fields: { program: "supervisor" },
});
process.on("unhandledRejection", (error) => {
  log.error("a fault of the supervisor", { reason: error instanceof Error ? error.stack : String(error) });
  process.exit(1);
});
process.on("SIGHUP", () => undefined);

const { vsockDirectory } = SUPERVISOR_FD;
const status = await runSupervisor({
  arguments: process.argv.slice(2),
  layout: {
    config: RUNTIME.config,
    serviceExec: RUNTIME.serviceExec,
    node: RUNTIME.node,
    loader: RUNTIME.loader,
    libraries: RUNTIME.libraries,
    gateway: RUNTIME.gateway,
    raServer: RUNTIME.raServer,
    nsmDevice: RUNTIME.nsmDevice,
    nsm: "/dev/nsm",
    logDirectory: "/var/log/enclave",
    pipeDirectory: "/run/enclave/output",
    archive: RUNTIME.archive,
    runDirectory: "/run/enclave",
    streamDirectory: "/run/enclave/streams",
    controlDirectory: "/run/enclave/control",
    processStatus: "/proc/self/status",
    uidMap: "/proc/self/uid_map",
    cgroups: "/sys/fs/cgroup",
    lowPorts: "/proc/sys/net/ipv4/ip_unprivileged_port_start",
    filterDirectory: "/run/enclave/seccomp",
  },
  vsockDirectoryFd: (await isDirectory(vsockDirectory)) ? vsockDirectory : undefined,
  notifyFd: SUPERVISOR_FD.notify,
  heldSockets: holdSockets(log).descriptors,
  gatewayId: GATEWAY_ID,
  raServerId: RA_SERVER_ID,
  pid: process.pid,
  architecture: process.arch === "arm64" ? "arm64" : "x64",
  log,
  onStopSignal: (handler) => {
    for (const name of ["SIGTERM", "SIGINT"]) process.on(name, () => handler(name));
  },
});
process.exit(status);
