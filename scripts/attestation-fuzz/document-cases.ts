/** Attestation documents, their payloads and their certificates, changed; what is left of them is verified by a policy. */
import { createHash } from "node:crypto";

import type { AttestationPolicy } from "../../attest/verify/attestation-policy.ts";
import { DocumentVerifier } from "../../attest/verify/document-verifier.ts";
import { KitError } from "../../core/errors.ts";
import { decodeAttestationPayload, MAX_DOCUMENT_BYTES } from "../../wire/attestation-document.ts";
import { encodeCbor } from "../../wire/cbor/cbor-encoder.ts";
import type { CborValue } from "../../wire/cbor/cbor-value.ts";
import { decodeCoseSign1, encodeCoseSign1 } from "../../wire/cose/cose-sign1.ts";
import type { FuzzCase } from "../egress-fuzz/fuzz-target.ts";
import { mutate, type Mutation } from "../egress-fuzz/mutation.ts";
import { makeDocument, openPassingAuthority } from "./development-documents.ts";

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(" ", ""), "hex");
const CBOR_WORDS: Mutation["words"] = [
  hex("84 44 a1013822 a0"),
  hex("d2"),
  hex("5b ffffffffffffffff"),
  hex("9f"),
  hex("bf"),
  hex("ff"),
  hex("5f 4100 ff"),
  hex("fb 3ff0000000000000"),
  hex("f6"),
  hex("656e6f6e6365"),
  hex("81818181818181818181"),
];
const DER_WORDS: Mutation["words"] = [
  hex("3080"),
  hex("0000"),
  hex("30820400"),
  hex("0603551d13"),
  hex("0603551d0f"),
  hex("0101ff"),
  hex("03020204"),
  hex("a003020102"),
  hex("300a06082a8648ce3d040303"),
  hex("1f8100"),
  hex("170d3236303131353132303030305a"),
  hex("30303030303030303030303030303030"),
];

/**
 * Signatures are not looked at: all of them hold, so that every case comes as far as its form allows, and chains that no
 * authority made are remembered as verified ones are.
 */
export async function createDocumentCases(): Promise<Readonly<Record<string, FuzzCase>>> {
  const authority = await openPassingAuthority();
  const documents = [
    Buffer.from(await makeDocument(authority, "definite")),
    Buffer.from(await makeDocument(authority, "indefinite")),
  ] as const;
  const verifier = new DocumentVerifier({ sha256, verifyEs384: () => true }, { maxCachedChains: 64 });
  const atMs = Date.now();
  const judge = async (bytes: Uint8Array, roots = [authority.rootSha256]): Promise<string> =>
    await judgeDocument(verifier, bytes, {
      policy: { roots, nonce: new Uint8Array(32), maxAgeMs: 60_000 },
      atMs,
    });
  return {
    document: async (random) =>
      await judge(
        mutate(random, random.pick(documents), { words: CBOR_WORDS, maxBytes: MAX_DOCUMENT_BYTES + 1 }),
      ),
    payload: async (random) => {
      const message = decodeCoseSign1(random.pick(documents), MAX_DOCUMENT_BYTES);
      const mutation = { words: CBOR_WORDS, maxBytes: 17 * 1024 };
      return await judge(
        encodeCoseSign1({ ...message, payload: mutate(random, Buffer.from(message.payload), mutation) }),
      );
    },
    certificate: async (random) => {
      const message = decodeCoseSign1(random.pick(documents), MAX_DOCUMENT_BYTES);
      const chain = readChain(message.payload);
      const index = random.below(chain.length);
      const mutation = { words: DER_WORDS, maxBytes: 1030 };
      const changed = chain.with(index, mutate(random, Buffer.from(chain[index] ?? []), mutation));
      const payload = withChain(message.payload, changed);
      return await judge(encodeCoseSign1({ ...message, payload }), [
        sha256(changed[0] ?? new Uint8Array()).toString("hex"),
      ]);
    },
  };
}

function sha256(bytes: Uint8Array): Buffer {
  return createHash("sha256").update(bytes).digest();
}

async function judgeDocument(
  verifier: DocumentVerifier,
  bytes: Uint8Array,
  { policy, atMs }: { readonly policy: AttestationPolicy; readonly atMs: number },
): Promise<string> {
  try {
    await verifier.verify(bytes, policy, atMs);
    return "passed";
  } catch (error) {
    if (error instanceof KitError && /^E_(?:EVIDENCE|UNMET)_/.test(error.code)) return error.code;
    throw error;
  }
}

function readChain(payload: Uint8Array): readonly Uint8Array[] {
  const { cabundle, certificate } = decodeAttestationPayload(payload);
  return [...cabundle, certificate];
}

function withChain(payload: Uint8Array, chain: readonly Uint8Array[]): Buffer {
  const { moduleId, digest, timestampMs, pcrs, publicKey, userData, nonce } =
    decodeAttestationPayload(payload);
  const entries: [string, CborValue][] = [
    ["module_id", moduleId],
    ["digest", digest],
    ["timestamp", timestampMs],
    ["pcrs", pcrs],
    ["certificate", chain.at(-1) ?? null],
    ["cabundle", chain.slice(0, -1)],
    ["public_key", publicKey],
    ["user_data", userData],
    ["nonce", nonce],
  ];
  return encodeCbor(new Map(entries));
}
