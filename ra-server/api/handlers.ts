/** What each operation of the attestation API answers. */
import type { AuthenticDocument } from "../../attest/verify/document-verifier.ts";
import { DocumentVerifier } from "../../attest/verify/document-verifier.ts";
import { createNodeCrypto } from "../../attest/verify/node-crypto.ts";
import { type KitError, toKitError } from "../../core/errors.ts";
import {
  AttestationRequestSchema,
  type VerifyAnswer,
  type VerifyRequest,
  VerifyRequestSchema,
} from "../../wire/attestation-api.ts";
import type { AttestationServerSettings } from "../../wire/attestation-server.ts";
import type { AttestedTime } from "../attested-time.ts";
import type { Evidence, EvidenceSource } from "../evidence-source.ts";
import type { IdentityKeeper } from "../identity-keeper.ts";
import type { ServerMetrics } from "../server-metrics.ts";
import { describeAttestationApi } from "./openapi.ts";
import { parseBody } from "./request-body.ts";
import type { Operation } from "./routes.ts";

export interface HandlerContext {
  readonly settings: AttestationServerSettings;
  readonly source: EvidenceSource;
  readonly keeper: IdentityKeeper;
  readonly time: AttestedTime;
  readonly metrics: ServerMetrics;
  /** Aborts with the server. */
  readonly stop: AbortSignal;
}

/** JSON, or text of the route's own type. */
export type Handler = (body: unknown) => Promise<unknown>;

const NOTE =
  "Only this enclave's word: it is worth as much as the proof that you have of the enclave itself.";

export function createHandlers(context: HandlerContext): Readonly<Record<Operation, Handler>> {
  // Of its own: what strangers hand in must not push our own chain out of the cache.
  const verifier = new DocumentVerifier(createNodeCrypto());
  const openapi = describeAttestationApi();
  return {
    health: async () => ({ status: "alive" }),
    ready: async () => describeReadiness(context),
    metrics: async () => await context.metrics.registry.metrics(),
    attestation: async (body) => await attest(body, context),
    pcrs: async () => describeRegisters(requireEvidence(context)),
    image: async () => describeImage(context.settings, requireEvidence(context)),
    verify: async (body) => await verify(parseBody(body, VerifyRequestSchema), verifier, context),
    openapi: async () => openapi,
  };
}

async function attest(body: unknown, { keeper, source, stop }: HandlerContext): Promise<unknown> {
  const { nonce, statement } = parseBody(body, AttestationRequestSchema);
  keeper.requireReady();
  try {
    const { bytes, timestampMs } = await source.ofStatement(nonce, statement, stop);
    return { document: toBase64(bytes), timestampMs };
  } catch (error) {
    if (toKitError(error).code !== "E_RA_BUSY") keeper.wake();
    throw error;
  }
}

/** @throws why there is none */
function requireEvidence({ keeper, source }: HandlerContext): Evidence {
  const { newest } = source;
  if (newest !== undefined) return newest;
  keeper.requireReady();
  throw new Error("a server that is ready has a document");
}

function describeReadiness({ keeper, settings }: HandlerContext): unknown {
  keeper.requireReady();
  const { documentTimeMs, clockOffsetMs, clockJumps, certificateNotAfterMs } = keeper.report();
  const { provider } = settings;
  return { status: "ready", provider, documentTimeMs, clockOffsetMs, clockJumps, certificateNotAfterMs };
}

function describeRegisters({ digest, pcrs, timestampMs }: Evidence): unknown {
  return { digest, pcrs: toHexRegisters(pcrs), timestampMs };
}

function describeImage(
  { name, mode, provider, image }: AttestationServerSettings,
  { rootSha256, pcrs }: Evidence,
): unknown {
  return {
    name,
    mode,
    provider,
    rootSha256,
    toolkit: image.toolkit,
    configSha256: image.config,
    lockSha256: image.lock,
    measurements: toHexRegisters(pcrs),
  };
}

async function verify(
  request: VerifyRequest,
  verifier: DocumentVerifier,
  context: HandlerContext,
): Promise<VerifyAnswer> {
  const { document, root, nonce, statement, pcrs, maxAgeMs, allowDebug } = request;
  const atMs = context.time.nowMs();
  const policy = {
    roots: [root ?? requireEvidence(context).rootSha256],
    ...(nonce === undefined ? {} : { nonce }),
    ...(statement === undefined ? {} : { purpose: { name: "statement" as const, data: statement } }),
    ...(pcrs === undefined ? {} : { measurements: [fromHexRegisters(pcrs)] }),
    ...(maxAgeMs === undefined ? {} : { maxAgeMs }),
    ...(allowDebug === undefined ? {} : { allowDebug }),
  };
  try {
    const authentic = await verifier.verify(document, policy, atMs);
    return { verified: true, refusal: null, document: describeDocument(authentic), atMs, note: NOTE };
  } catch (error) {
    const refusal = toKitError(error);
    if (!isVerdict(refusal)) throw error;
    const { code, message, hint } = refusal;
    return {
      verified: false,
      refusal: { code, message: message.slice(0, 1024), hint },
      document: null,
      atMs,
      note: NOTE,
    };
  }
}

function isVerdict({ code }: KitError): boolean {
  return code.startsWith("E_EVIDENCE_") || code.startsWith("E_UNMET_");
}

function describeDocument(document: AuthenticDocument): NonNullable<VerifyAnswer["document"]> {
  const { moduleId, timestampMs, isDebug, rootSha256, pcrs } = document;
  return { moduleId, timestampMs, isDebug, rootSha256, pcrs: toHexRegisters(pcrs) };
}

function toHexRegisters(pcrs: ReadonlyMap<number, Uint8Array>): Record<string, string> {
  return Object.fromEntries([...pcrs].map(([index, value]) => [String(index), toHex(value)]));
}

function fromHexRegisters(pcrs: Readonly<Record<string, string>>): ReadonlyMap<number, string> {
  return new Map(Object.entries(pcrs).map(([index, value]) => [Number(index), value]));
}

function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

function toBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("base64");
}
