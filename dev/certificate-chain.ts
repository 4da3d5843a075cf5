/** The certificates below the root, as AWS issues them: regional, zonal, instance, leaf; each made anew before it ends. */
import { type CertificateLevel, LEVELS } from "./certificate-levels.ts";
import { type Issuer, type KeyPair, makeKeys, writeCertificate } from "./certificate-writer.ts";
import type { DevelopmentAuthority } from "./development-authority.ts";

export interface Leaf {
  /** DER. */
  readonly certificate: Uint8Array;
  readonly keys: KeyPair;
  /** DER of those above, the root first. */
  readonly bundle: readonly Uint8Array[];
}

interface Issued extends Issuer {
  readonly certificate: Uint8Array;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

export class CertificateChain {
  readonly #authority: DevelopmentAuthority;
  readonly #moduleId: string;
  readonly #nowMs: () => number;
  /** The chain as far as it is made, regional first. */
  readonly #issued: Issued[] = [];

  constructor(authority: DevelopmentAuthority, moduleId: string, nowMs: () => number) {
    this.#authority = authority;
    this.#moduleId = moduleId;
    this.#nowMs = nowMs;
  }

  /** A leaf that is valid now and for half an hour at least. One call after the other. */
  async leaf(): Promise<Leaf> {
    const nowMs = this.#nowMs();
    // Whatever is below a certificate that is made anew is below another key.
    const stale = LEVELS.findIndex((level, index) => !isGood(level, this.#issued[index], nowMs));
    if (stale !== -1) this.#issued.splice(stale);
    for (const level of LEVELS.slice(this.#issued.length))
      this.#issued.push(await this.#issue(level, this.#issued.at(-1) ?? this.#authority, nowMs));
    const leaf = this.#issued.at(-1);
    if (leaf === undefined) throw new TypeError("a chain without a leaf");
    const above = this.#issued.slice(0, -1).map(({ certificate }) => certificate);
    return { ...leaf, bundle: [this.#authority.rootCertificate, ...above] };
  }

  async #issue(level: CertificateLevel, issuer: Issuer, nowMs: number): Promise<Issued> {
    const keys = await makeKeys();
    const subject = level.subject(this.#moduleId);
    const [notBeforeMs, notAfterMs] = [wholeSecond(nowMs) - level.backdatedMs, wholeSecond(nowMs) + level.lifeMs]; // prettier-ignore
    const certificate = await writeCertificate({
      subject,
      issuer,
      notBeforeMs,
      notAfterMs,
      serialBytes: level.serialBytes,
      publicKey: keys.publicKey,
      extensions: await level.extensions({ own: keys.publicKey, issuer: issuer.keys.publicKey }),
    });
    return { subject, keys, certificate, notBeforeMs, notAfterMs };
  }
}

/** Not when the clock went back behind its beginning, either. */
function isGood({ leftMs }: CertificateLevel, issued: Issued | undefined, nowMs: number): boolean {
  return issued !== undefined && issued.notBeforeMs <= nowMs && issued.notAfterMs - nowMs >= leftMs;
}

function wholeSecond(ms: number): number {
  return Math.floor(ms / 1_000) * 1_000;
}
