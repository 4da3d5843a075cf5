/**
 * Certificates of clients, where the measured configuration names an authority. The TLS library checks the chain, by the
 * system clock; here the time is checked again by a clock that the host cannot turn back.
 */
import { X509Certificate } from "node:crypto";
import type { TLSSocket } from "node:tls";

import { KitError } from "../core/errors.ts";

/** Ends of validity that were not yet, or no more, by the system clock: the attested time decides. */
const TIME_ERRORS = ["CERT_NOT_YET_VALID"];
const CLIENT_AUTHENTICATION = "1.3.6.1.5.5.7.3.2";

export class ClientCertificates {
  readonly #authorities: readonly X509Certificate[];
  readonly #nowMs: () => number;

  /**
   * @param authorities PEM, one or more certificates
   * @param nowMs the attested time
   * @throws E_RA_CLIENT there is none, for which the TLS library would take every authority of the web
   */
  constructor(authorities: string, nowMs: () => number) {
    this.#authorities = splitPem(authorities).map((pem) => new X509Certificate(pem));
    if (this.#authorities.length === 0) throw refuse("no certificate of an authority is configured");
    this.#nowMs = nowMs;
  }

  /** After a handshake, and again with every request. @throws E_RA_CLIENT */
  check(socket: TLSSocket): void {
    const certificate = socket.getPeerX509Certificate();
    if (certificate === undefined) throw refuse("the client shows no certificate");
    if (!socket.authorized && !this.#isVouchedFor(certificate, String(socket.authorizationError))) {
      throw refuse(`the client's certificate is refused: ${String(socket.authorizationError)}`);
    }
    const nowMs = this.#nowMs();
    if (isValidAt(certificate, nowMs)) return;
    const range = `${certificate.validFrom} to ${certificate.validTo}`;
    const now = new Date(nowMs).toISOString();
    throw refuse(`the client's certificate is valid from ${range}, and it is ${now} at least`);
  }

  /**
   * The library names one error, and that of a late clock may hide another, so the rest is checked here again. Only for
   * certificates of an authority itself: nobody looks at those in between.
   */
  #isVouchedFor(certificate: X509Certificate, error: string): boolean {
    const usages: readonly string[] | undefined = certificate.keyUsage;
    const isForClients = usages === undefined || usages.includes(CLIENT_AUTHENTICATION);
    if (!TIME_ERRORS.includes(error) || !isForClients) return false;
    return this.#authorities.some(
      (authority) =>
        isValidAt(authority, this.#nowMs()) &&
        certificate.checkIssued(authority) &&
        certificate.verify(authority.publicKey),
    );
  }
}

function isValidAt({ validFromDate, validToDate }: X509Certificate, atMs: number): boolean {
  return validFromDate.getTime() <= atMs && atMs <= validToDate.getTime();
}

function splitPem(text: string): readonly string[] {
  return text.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
}

function refuse(message: string): KitError {
  return new KitError("E_RA_CLIENT", message);
}
