/**
 * Where an image comes from: an in-toto statement (v1) with SLSA provenance (v1), as JSON. It says nothing of time, place
 * or user, so the same inputs give the same statement; it is not signed here.
 * Sources: in-toto attestation framework, spec/v1/statement.md; SLSA specification, provenance v1.
 */
import { type EnclaveLock, lockDigest } from "../lock/enclave-lock.ts";
import type { LockedPackage } from "../locked-package.ts";
import type { EnclaveImage } from "./build-image.ts";

export interface ProvenanceRequest {
  readonly image: EnclaveImage;
  readonly lock: EnclaveLock;
  /** SHA-256 of the enclave.yaml. */
  readonly configurationDigest: string;
  readonly toolkitVersion: string;
}

interface Resource {
  readonly name: string;
  readonly uri?: string;
  readonly digest: { readonly sha256: string };
}

const STATEMENT_TYPE = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE = "https://slsa.dev/provenance/v1";
const BUILD_TYPE = "urn:enclave-toolkit:enclave-image:v1";
const BUILDER = "urn:enclave-toolkit:pipeline";

/** The bytes of the statement. */
export function encodeProvenance(request: ProvenanceRequest): string {
  const { image, lock, configurationDigest, toolkitVersion } = request;
  const statement = {
    _type: STATEMENT_TYPE,
    subject: [{ name: `${image.name}.eif`, digest: { sha256: image.sha256 } }],
    predicateType: PREDICATE_TYPE,
    predicate: {
      buildDefinition: {
        buildType: BUILD_TYPE,
        externalParameters: {
          configuration: { name: "enclave.yaml", digest: { sha256: configurationDigest } },
          architecture: image.architecture,
        },
        internalParameters: { rootFileSystem: { digest: { sha256: image.manifestDigest } } },
        resolvedDependencies: dependencies(lock),
      },
      runDetails: {
        builder: { id: BUILDER, version: { "enclave-toolkit": toolkitVersion } },
        byproducts: [{ name: "measurements", annotations: image.pcrs }],
      },
    },
  };
  return `${JSON.stringify(statement, undefined, 2)}\n`;
}

function dependencies(lock: EnclaveLock): Resource[] {
  return [
    { name: "enclave.lock", digest: { sha256: lockDigest(lock) } },
    ...Object.entries(lock.toolkit).map(([name, sha256]) => ({
      name: `toolkit: ${name}`,
      digest: { sha256 },
    })),
    ...baseOf(lock),
    ...lock.packages.map((entry) => packageResource("package", entry)),
    ...lock.toolchain.map((entry) => packageResource("toolchain", entry)),
    ...kernelOf(lock),
  ];
}

function baseOf({ base }: EnclaveLock): Resource[] {
  if (base.kind !== "oci") return [];
  const hex = (digest: string): string => digest.slice("sha256:".length);
  return [
    { name: "image configuration", digest: { sha256: hex(base.config) } },
    ...base.layers.map((layer, index) => ({ name: `layer ${index}`, digest: { sha256: hex(layer) } })),
  ];
}

function kernelOf({ kernel }: EnclaveLock): Resource[] {
  if (kernel.kind === "default") return [packageResource("kernel source", kernel.source)];
  return Object.entries(kernel.files).map(([name, sha256]) => ({
    name: `kernel: ${name}`,
    digest: { sha256 },
  }));
}

/** As package URLs name Debian's packages (purl-spec, types/deb). */
function packageResource(role: string, { name, version, architecture, sha256 }: LockedPackage): Resource {
  const uri = `pkg:deb/debian/${name}@${encodeURIComponent(version)}?arch=${architecture}`;
  return { name: `${role}: ${name}`, uri, digest: { sha256 } };
}
