/** The attestation server as a program: started by the supervisor, never by hand. */
import { createInterface } from "node:readline";
import { Socket } from "node:net";

import { openDevelopmentProvider } from "../attest/nsm/development-provider.ts";
import { openDeviceProvider } from "../attest/nsm/device-provider.ts";
import type { NsmProvider } from "../attest/nsm/nsm-provider.ts";
import { createLog } from "../core/log.ts";
import { loadAddon } from "../native/addon.ts";
import { dialInDirectory, dialOnVsock } from "../native/guest-dialer.ts";
import { listenOnDescriptor, listenOnVsock } from "../native/guest-listener.ts";
import { isDirectory } from "../native/vsock-form.ts";
import { type AttestationServerSettings, encodeServerLine } from "../wire/attestation-server.ts";
import { VSOCK_PORT } from "../wire/ports.ts";
import { RUNTIME } from "../wire/runtime-layout.ts";
import { runAttestationServer } from "./attestation-server.ts";

/** What the supervisor passes on (enclave/boot.ts); the last two only in the local form of vsock. */
const FD = { supervisor: 3, vsockDirectory: 4, listener: 5 } as const;
/** The supervisor takes fifteen seconds of silence for a hang. */
const ALIVE_MS = 2_000;

const log = createLog({
  write: (line) => process.stderr.write(line),
  now: () => Date.now(),
  fields: { program: "ra-server" },
});
process.on("unhandledRejection", (error) => {
  log.error("a fault of the attestation server", {
    reason: error instanceof Error ? error.stack : String(error),
  });
  process.exit(1);
});
const stop = new AbortController();
process.on("SIGTERM", () => stop.abort());

const supervisor = new Socket({ fd: FD.supervisor });
const directory = `/proc/self/fd/${FD.vsockDirectory}`;
const isLocal = await isDirectory(FD.vsockDirectory);
const addon = isLocal ? undefined : loadAddon(RUNTIME.addon);
const dialVsock = addon === undefined ? dialInDirectory(directory) : dialOnVsock(addon);
const listenVsock = addon === undefined ? listenOnDescriptor(FD.listener) : listenOnVsock(addon);

for await (const line of createInterface({ input: supervisor })) {
  // Of the supervisor, which reads it from the measured configuration.
  const settings: AttestationServerSettings = JSON.parse(line);
  void serve(settings);
}
stop.abort(); // the supervisor is gone

async function serve(settings: AttestationServerSettings): Promise<void> {
  const tell = (text: string): void => void (supervisor.writable && supervisor.write(text));
  const alive = setInterval(() => tell(encodeServerLine({ alive: true })), ALIVE_MS);
  await runAttestationServer({
    settings,
    provider: async () => await openProvider(settings.provider),
    listen: async (onConnection) => await listenVsock(VSOCK_PORT.attestation, onConnection),
    report: (report) => tell(encodeServerLine({ report })),
    nowMs: () => Date.now(),
    log,
    stop: stop.signal,
  });
  clearInterval(alive);
  process.exit(0);
}

/** By the measured configuration alone: a device that is missing is never replaced by the host's word. */
async function openProvider(name: AttestationServerSettings["provider"]): Promise<NsmProvider> {
  if (name === "nitro")
    return await openDeviceProvider({ addon: addon ?? loadAddon(RUNTIME.addon), path: "/dev/nsm" });
  return openDevelopmentProvider({
    dial: async (signal) => await dialVsock(VSOCK_PORT.developmentNsm, signal),
  });
}
