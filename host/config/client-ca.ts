/** attestation.client_ca: certificates of authorities, read on the host and measured as part of the image. */
import { X509Certificate } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";

import { isErrno, KitError } from "../../core/errors.ts";
import type { YamlFile, YamlPath } from "../../core/yaml-file.ts";
import type { EnclaveYaml } from "./enclave-schema.ts";

const AT: YamlPath = ["attestation", "client_ca"];
const MAX_BYTES = 64 * 1024;
const MAX_CERTIFICATES = 16;
const CERTIFICATE = /-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/g;

/** @returns the certificates alone, one way of writing them. @throws E_CONFIG_FILE_MISSING, E_CONFIG_INVALID */
export async function readClientCa({ attestation }: EnclaveYaml, file: YamlFile): Promise<string | null> {
  if (attestation.client_ca === undefined) return null;
  const path = resolve(dirname(file.path), attestation.client_ca);
  const blocks = (await readText(path, file)).match(CERTIFICATE) ?? [];
  if (blocks.length === 0 || blocks.length > MAX_CERTIFICATES)
    throw invalid(
      file,
      `${path} has ${blocks.length} certificates in PEM; 1 to ${MAX_CERTIFICATES} are needed`,
    );
  return blocks.map((block) => readAuthority(block, path, file)).join("");
}

function readAuthority(pem: string, path: string, file: YamlFile): string {
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(pem);
  } catch (error) {
    throw invalid(file, `${path} has a certificate that cannot be read`, error);
  }
  if (certificate.ca) return certificate.toString();
  throw invalid(file, `${certificate.subject.replaceAll("\n", ", ")} in ${path} is no certificate authority`);
}

async function readText(path: string, file: YamlFile): Promise<string> {
  try {
    const { size } = await stat(path);
    if (size > MAX_BYTES) throw invalid(file, `${path} has ${size} bytes, more than ${MAX_BYTES}`);
    return await readFile(path, "utf8");
  } catch (error) {
    if (!isErrno(error)) throw error;
    const message = `${file.locate(AT)}: ${AT.join(".")}: cannot read ${path}: ${error.code ?? ""}`;
    throw new KitError("E_CONFIG_FILE_MISSING", message, { cause: error });
  }
}

function invalid(file: YamlFile, why: string, cause?: unknown): KitError {
  const message = `${file.locate(AT)}: ${AT.join(".")}: ${why}`;
  return new KitError("E_CONFIG_INVALID", message, cause === undefined ? {} : { cause });
}
