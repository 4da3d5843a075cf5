/** What a changed enclave.yaml means for an enclave that runs. */
import { KitError } from "../../core/errors.ts";
import type { ReloadOverrides } from "../../wire/control.ts";
import { loadEnclaveSpec } from "../config/load-spec.ts";
import type { EnclaveRecord } from "../state/enclave-record.ts";
import { assembleFor } from "./machines/prepare-machine.ts";
import type { Toolkit } from "./toolkit.ts";

/**
 * The services and egress rules that the enclave.yaml of the enclave now describes. Files are measured and cannot be replaced while the
 * enclave runs, so whatever needs others is refused.
 * @throws E_RELOAD_IMAGE, E_CONFIG_*, E_IMAGE_*, E_LOCK_*
 */
export async function computeOverrides(
  toolkit: Toolkit,
  record: EnclaveRecord,
  signal: AbortSignal,
): Promise<ReloadOverrides> {
  const spec = await loadEnclaveSpec(record.file);
  const image = await assembleFor(toolkit, record.backend, { spec, signal, onProgress: () => undefined });
  if (image.filesDigest === record.imageFiles) {
    const { services, egress } = image.config;
    return { services, egress };
  }
  throw new KitError("E_RELOAD_IMAGE", `${record.file} describes other files than ${record.name} runs with`);
}
