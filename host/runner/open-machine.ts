/** From a plan to the machine of its backend. */
import type { Machine } from "../backends/backend.ts";
import { LocalMachine } from "../backends/local/local-machine.ts";
import type { EnclavePaths } from "../state/enclave-paths.ts";
import { VSOCK_PORT } from "../../wire/ports.ts";
import type { RunRequest } from "./run-request.ts";

/** @throws E_BACKEND_*, E_HOST_STATE_PATH, E_NATIVE_ADDON */
export async function openMachine(
  { record, machine }: RunRequest,
  paths: EnclavePaths,
  signal: AbortSignal,
): Promise<Machine> {
  const { vsock: vsockDirectory, scratch: scratchDirectory } = paths;
  if (machine.backend === "local") {
    const { plan, launcher } = machine;
    return await LocalMachine.open({
      name: record.name,
      plan,
      launcher,
      vsockDirectory,
      scratchDirectory,
      signal,
    });
  }
  // Loaded here: the local backend needs none of it.
  const ask = record.mode === "development" ? powerOff : undefined;
  if (machine.backend === "qemu") {
    const { QemuMachine } = await import("../backends/qemu/qemu-machine.ts");
    return await QemuMachine.open({ plan: machine.plan, vsockDirectory, powerOff: ask, signal });
  }
  const { openNitroMachine } = await import("../backends/nitro/nitro-machine.ts");
  const { createVsockDialer } = await import("../backends/nitro/vsock-dialer.ts");
  const { loadAddon } = await import("../../native/addon.ts");
  const dialer = createVsockDialer(loadAddon(machine.addon));
  return await openNitroMachine({ plan: machine.plan, dialer, vsockDirectory, powerOff: ask, signal });
}

async function powerOff(machine: Machine, signal: AbortSignal): Promise<void> {
  const { ControlClient } = await import("../../control/control-client.ts");
  const dial = async (deadline: AbortSignal) => await machine.connect(VSOCK_PORT.control, deadline);
  await new ControlClient(dial).poweroff(signal);
}
