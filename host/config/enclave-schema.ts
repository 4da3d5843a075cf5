/** The whole of enclave.yaml. Unknown keys are errors; keys of later releases are refused by name (later-keys.ts). */
import { z } from "zod";

import { VSOCK_PORT } from "../../wire/ports.ts";
import { Egress, EgressProxies } from "./egress-schema.ts";
import { Bytes } from "./limits-schema.ts";
import { parsePortMapping } from "./port-mapping.ts";
import { AbsolutePath, ServiceName, ServiceSchema } from "./service-schema.ts";

const MIB = 1024 ** 2;

export const EnclaveName = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9-]{0,31}$/,
    "a name has 1 to 32 of a-z, 0-9 and -, and begins with a letter or digit",
  );

const PackageName = z.string().regex(/^[a-z0-9][a-z0-9+.-]{1,127}$/, "is no name of a Debian package");

const HostPath = z
  .string()
  .min(1)
  .max(4096)
  .refine((text) => !text.includes("\0"), "must not contain a NUL character");

const Base = z.union(
  [
    z.literal("host"),
    z.strictObject({ debian: z.array(PackageName).max(500) }),
    z.strictObject({ oci: HostPath }),
    z.strictObject({ directory: HostPath }),
  ],
  { error: "write { debian: [packages] }, { oci: FILE }, { directory: DIR } or host" },
);

const Kernel = z.union(
  [
    z.literal("default"),
    z.strictObject({ blobs: HostPath }),
    z.strictObject({ file: HostPath, config: HostPath.optional(), modules: HostPath.optional() }),
  ],
  { error: "write default, { blobs: DIR } or { file: FILE, config: FILE, modules: DIR }" },
);

const SuiteName = z.string().regex(/^[a-z0-9][a-z0-9._/-]{0,63}$/, "is no name of a suite or component");

const Source = z.union(
  [
    z.strictObject({ directory: HostPath }),
    z.strictObject({
      snapshot: z.string().regex(/^(?:https?|file):\/\/[^\s"'[\]]{1,500}$/, "is no URL of an archive"),
      suites: z.array(SuiteName).min(1).max(16),
      components: z.array(SuiteName).min(1).max(16).default(["main"]),
    }),
  ],
  { error: "write { directory: DIR } or { snapshot: URL, suites: [NAME] }" },
);

const Image = z.strictObject({
  base: Base,
  kernel: Kernel.default("default"),
  sources: z.array(Source).max(16).default([]),
  copy: z
    .array(z.strictObject({ from: HostPath, to: AbsolutePath }))
    .max(1000)
    .default([]),
});

const Ports = z
  .array(
    z.union([z.string(), z.number().int()]).transform((value, context) => {
      const port = parsePortMapping(String(value));
      if (port !== undefined) return port;
      context.addIssue({
        code: "custom",
        message: `${JSON.stringify(value)} is no port mapping: write "127.0.0.1:8080:80"`,
        params: { error: "E_CONFIG_PORT" },
      });
      return z.NEVER;
    }),
  )
  .max(256);

/** ADDRESS:PORT of the host. The enclave's side of it is fixed. */
const Publish = z.string().transform((text, context) => {
  const port = parsePortMapping(`${text}:${VSOCK_PORT.attestation}`);
  if (port !== undefined) return { hostAddress: port.hostAddress, hostPort: port.hostPort };
  context.addIssue({
    code: "custom",
    message: `${JSON.stringify(text)} is no place to publish: write "127.0.0.1:8443"`,
    params: { error: "E_CONFIG_PORT" },
  });
  return z.NEVER;
});

const CpuIds = z
  .array(z.number().int().min(0).max(4095))
  .min(1)
  .max(1024)
  .refine((ids) => new Set(ids).size === ids.length, "names a CPU twice");

export const EnclaveSchema = z.strictObject({
  name: EnclaveName,
  mode: z.enum(["development", "production"]),
  image: Image,
  resources: z
    .strictObject({
      cpus: z.number().int().min(1).max(1024).optional(),
      cpu_ids: CpuIds.optional(),
      numa_node: z.number().int().min(0).max(1023).optional(),
      memory: Bytes.refine((bytes) => bytes >= 64 * MIB, "an enclave needs at least 64MiB").default(
        1024 * MIB,
      ),
    })
    .prefault({}),
  services: z.record(ServiceName, ServiceSchema).default({}),
  ports: Ports.default([]),
  egress: Egress,
  egress_proxies: EgressProxies,
  attestation: z
    .strictObject({
      provider: z.enum(["nitro", "development"]).optional(),
      publish: Publish.optional(),
      client_ca: HostPath.optional(),
    })
    .prefault({}),
  logs: z.strictObject({ ship: z.boolean().optional() }).prefault({}),
  local: z.strictObject({ single_user: z.boolean().default(false) }).prefault({}),
});

export type EnclaveYaml = z.output<typeof EnclaveSchema>;
