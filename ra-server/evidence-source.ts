/**
 * Documents of this enclave's NSM. Nothing outside this file asks for one, and what goes into one is decided here: a
 * caller's bytes only ever as a nonce, or hashed under the purpose of statements; `public_key` only ever this process's own.
 */
import { type DocumentRequest, NsmClient } from "../attest/nsm/nsm-client.ts";
import type { NsmProvider } from "../attest/nsm/nsm-provider.ts";
import { encodeUserData } from "../attest/user-data.ts";
import { DocumentVerifier } from "../attest/verify/document-verifier.ts";
import { createNodeCrypto } from "../attest/verify/node-crypto.ts";
import { Deadline } from "../core/deadline.ts";
import { KitError } from "../core/errors.ts";
import { decodeAttestationPayload, MAX_DOCUMENT_BYTES } from "../wire/attestation-document.ts";
import { decodeCoseSign1 } from "../wire/cose/cose-sign1.ts";
import type { Purpose } from "../wire/purposes.ts";
import type { AttestedTime } from "./attested-time.ts";

export interface EvidenceSourceOptions {
  /** A function opens it, also again after a failure; what it gives is disposed of here. */
  readonly provider: NsmProvider | (() => Promise<NsmProvider>);
  /** By the measured configuration: no other is ever asked. */
  readonly providerName: NsmProvider["name"];
  readonly time: AttestedTime;
  readonly monotonicMs: () => number;
  /** Hears of every document, and by how much the system clock jumped before it. */
  readonly onDocument: (jumpMs: number, elapsedMs: number) => void;
}

export interface Evidence {
  readonly bytes: Uint8Array;
  readonly timestampMs: number;
  readonly digest: string;
  readonly pcrs: ReadonlyMap<number, Uint8Array>;
  readonly rootSha256: string;
}

export interface KeyEvidence extends Evidence {
  /** Validity of the certificate that signed it. */
  readonly leaf: { readonly notBeforeMs: number; readonly notAfterMs: number };
}

/** Documents that are being waited for; the device makes one after the other. */
const MAX_WAITING = 1024;
const DOCUMENT_TIMEOUT_MS = 30_000;
const NOTHING = new Uint8Array(0);

export class EvidenceSource implements AsyncDisposable {
  readonly #options: EvidenceSourceOptions;
  readonly #crypto = createNodeCrypto();
  readonly #verifier = new DocumentVerifier(this.#crypto);
  #opening: Promise<NsmProvider> | undefined;
  #waiting = 0;
  #newest: Evidence | undefined;

  constructor(options: EvidenceSourceOptions) {
    this.#options = options;
  }

  /** The newest document that came, whatever for. */
  get newest(): Evidence | undefined {
    return this.#newest;
  }

  /**
   * For a certificate; checked as its clients will, so that none is shown which they refuse.
   * @param spki DER of a key that this process made
   * @throws E_NSM_*, E_EVIDENCE_*
   */
  async ofTlsKey(spki: Uint8Array, signal: AbortSignal): Promise<KeyEvidence> {
    const userData = await this.#encode("ra-tls", spki);
    const evidence = await this.#obtain({ publicKey: spki, userData }, signal);
    const { bytes, rootSha256, timestampMs } = evidence;
    const { chain } = await this.#verifier.authenticate(bytes, { roots: [rootSha256], atMs: timestampMs });
    const leaf = chain.at(-1);
    if (leaf === undefined) throw new Error("a verified document has a chain");
    const { notBeforeMs, notAfterMs } = leaf;
    return { ...evidence, leaf: { notBeforeMs, notAfterMs } };
  }

  /** For a caller. @throws E_RA_BUSY, E_NSM_*, E_EVIDENCE_* */
  async ofStatement(
    nonce: Uint8Array,
    statement: Uint8Array | undefined,
    signal: AbortSignal,
  ): Promise<Evidence> {
    if (this.#waiting >= MAX_WAITING) {
      throw new KitError("E_RA_BUSY", `${MAX_WAITING} documents are being waited for`);
    }
    const userData = await this.#encode("statement", statement ?? NOTHING);
    return await this.#obtain({ userData, nonce }, signal);
  }

  /** For the time alone; nobody gets to see it. @throws E_NSM_*, E_EVIDENCE_* */
  async ofTime(signal: AbortSignal): Promise<Evidence> {
    return await this.#obtain({}, signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const opening = this.#opening;
    this.#opening = undefined;
    if (typeof this.#options.provider !== "function") return;
    const provider = await opening?.catch(() => undefined);
    await provider?.[Symbol.asyncDispose]();
  }

  async #encode(purpose: Purpose, data: Uint8Array): Promise<Uint8Array> {
    return await encodeUserData(purpose, data, async (bytes) => await this.#crypto.sha256(bytes));
  }

  async #obtain(wanted: DocumentRequest, signal: AbortSignal): Promise<Evidence> {
    this.#waiting += 1;
    try {
      using deadline = new Deadline(signal, DOCUMENT_TIMEOUT_MS);
      const provider = await this.#open();
      const { monotonicMs, time, onDocument } = this.#options;
      const sentMs = monotonicMs();
      const bytes = await new NsmClient(provider).attest(wanted, deadline.signal);
      this.#newest = await this.#read(bytes, provider);
      const elapsedMs = monotonicMs() - sentMs;
      onDocument(time.observe({ documentMs: this.#newest.timestampMs, elapsedMs }), elapsedMs);
      return this.#newest;
    } finally {
      this.#waiting -= 1;
    }
  }

  /** Our own module's words are believed; who else is to believe them verifies. */
  async #read(bytes: Uint8Array, { rootSha256 }: NsmProvider): Promise<Evidence> {
    const { payload } = decodeCoseSign1(bytes, MAX_DOCUMENT_BYTES);
    const { timestampMs, digest, pcrs, cabundle } = decodeAttestationPayload(payload);
    const [root = NOTHING] = cabundle;
    // The development root is another one on each host, and only a document tells which.
    const known = rootSha256 ?? Buffer.from(await this.#crypto.sha256(root)).toString("hex");
    return { bytes, timestampMs, digest, pcrs, rootSha256: known };
  }

  async #open(): Promise<NsmProvider> {
    const { provider, providerName } = this.#options;
    if (typeof provider === "function") {
      this.#opening ??= provider().catch((error: unknown) => {
        this.#opening = undefined;
        throw error;
      });
    }
    const opened = typeof provider === "function" ? await this.#opening : provider;
    if (opened?.name !== providerName) throw new TypeError(`the image is measured for ${providerName}`);
    return opened;
  }
}
