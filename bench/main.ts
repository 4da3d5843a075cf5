/**
 * The figures of docs/performance.md, each beside its limit and in the same run:
 *   startup   warm `up` to the first answer of hello, beside a bare `node server.js`
 *   memory    resident memory of every process, beside an empty Node
 *   exec      a command in a running enclave, beside bubblewrap
 *   copy      1 GiB into an enclave and out of it, beside cat over a Unix socket
 *   control   requests to the control API, beside a bare fastify route
 *   logs      output of a service that prints flat out
 *   many      enclaves at once: time and memory for each
 *   eif       writing and measuring an image of 4 GiB, beside two `openssl dgst -sha384`
 *   rebuild   `pipeline build` of hello, with what takes the time and the room
 *   vsock     a guest's connections through our device, beside iperf3 in the same guest over QEMU's user network
 *   boot      `up --backend qemu` of hello in stages
 *   network   through egress and ingress of a local enclave, beside HAProxy in TCP mode and socat
 *   attestation-verify  documents verified, beside raw P-384 signatures, and memory over 100,000 of them
 *   attestation-server  documents over HTTPS, beside a bare fastify route with one ES384 signature
 *
 * Usage: npm run bench -- [startup] [memory] [exec] [copy] [control] [logs] [many] [eif]
 *   [rebuild] [vsock] [boot] [network] [attestation-verify] [attestation-server]
 */
import { measureAttestationServer } from "./attestation-server.ts";
import { measureAttestationVerify } from "./attestation-verify.ts";
import { measureBoot } from "./boot.ts";
import { measureControl } from "./control.ts";
import { measureCopy } from "./copy.ts";
import { measureEif } from "./eif-write.ts";
import { measureExec } from "./exec.ts";
import { measureRebuild } from "./image-rebuild.ts";
import { measureLogs } from "./logs.ts";
import { measureMany } from "./many.ts";
import { measureMemory } from "./memory.ts";
import { measureNetwork } from "./network.ts";
import { measureStartup } from "./startup.ts";
import { measureVsock } from "./vsock.ts";

const BENCHES: Readonly<Record<string, () => Promise<void>>> = {
  startup: measureStartup,
  memory: measureMemory,
  exec: measureExec,
  copy: measureCopy,
  control: measureControl,
  logs: measureLogs,
  many: measureMany,
  eif: measureEif,
  rebuild: measureRebuild,
  vsock: measureVsock,
  boot: measureBoot,
  network: measureNetwork,
  "attestation-verify": measureAttestationVerify,
  "attestation-server": measureAttestationServer,
};

const asked = process.argv.slice(2);
for (const [name, measure] of Object.entries(BENCHES)) {
  if (asked.length === 0 || asked.includes(name)) await measure();
}
