/** From a validated enclave.yaml to a finished image. */
import { join } from "node:path";

import { assembleImage } from "../../rbuilds/assemble.ts";
import type { BuiltImage } from "../../rbuilds/built-image.ts";
import type { EnclaveSpec } from "../config/enclave-spec.ts";
import { toEnclaveConfig } from "../image/enclave-config.ts";
import type { Toolkit } from "./toolkit.ts";

export interface ImageBuildOptions {
  readonly spec: EnclaveSpec;
  readonly signal: AbortSignal;
  readonly onProgress: (step: string) => void;
}

/** The image of an enclave.yaml, from the cache where nothing changed. @throws E_IMAGE_*, E_LOCK_*, E_CONFIG_* */
export async function buildImage(
  toolkit: Toolkit,
  { spec, signal, onProgress }: ImageBuildOptions,
): Promise<BuiltImage> {
  const { services, ports, logs, singleUser, mode, attestation, name } = spec;
  const request = {
    image: spec.image,
    hostname: name,
    configurationInput: { services, ports, logs, singleUser, mode, attestation, name },
    configure: async (facts: Parameters<typeof toEnclaveConfig>[1]) => await toEnclaveConfig(spec, facts),
  };
  return await assembleImage(request, {
    cacheDir: toolkit.cacheDir,
    lockDir: join(toolkit.stateDir, "locks"),
    architecture: toolkit.architecture,
    proxies: toolkit.proxies,
    runtime: {
      node: toolkit.node,
      init: join(toolkit.nativeDir, "init"),
      serviceExec: join(toolkit.nativeDir, "service-exec"),
      supervisor: join(toolkit.distDir, "supervisor.mjs"),
      gateway: join(toolkit.distDir, "gateway.mjs"),
      gatewayApi: join(toolkit.distDir, "gateway-api.mjs"),
      gatewayShared: join(toolkit.distDir, "gateway-shared.mjs"),
      archive: join(toolkit.distDir, "archive.mjs"),
      initctl: join(toolkit.distDir, "initctl.mjs"),
      initctlProgram: join(toolkit.nativeDir, "initctl"),
    },
    signal,
    onProgress,
  });
}
