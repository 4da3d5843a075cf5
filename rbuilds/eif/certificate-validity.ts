import { KitError } from "../../core/errors.ts";

/** Of a certificate; an invalid date compares as false with every other one, so such dates must not get here. */
interface Dates {
  readonly validFromDate: Date;
  readonly validToDate: Date;
}

/** @throws E_EIF_CERTIFICATE_EXPIRED, E_EIF_CERTIFICATE_NOT_YET_VALID */
export function checkValidity(certificate: Dates, at: Date): void {
  const state = validityOf(certificate, at);
  if (state === "expired") throw expired(certificate.validToDate);
  if (state === "not-yet-valid") throw notYetValid(certificate.validFromDate);
}

export type Validity = "valid" | "expired" | "not-yet-valid";

export function validityOf(certificate: Dates, at: Date): Validity {
  if (at > certificate.validToDate) return "expired";
  return at < certificate.validFromDate ? "not-yet-valid" : "valid";
}

export function expired(notAfter: Date): KitError {
  const message = `the signing certificate expired on ${notAfter.toISOString()}`;
  return new KitError("E_EIF_CERTIFICATE_EXPIRED", message, {
    details: { notAfter: notAfter.toISOString() },
  });
}

export function notYetValid(notBefore: Date): KitError {
  const message = `the signing certificate is valid only from ${notBefore.toISOString()}`;
  return new KitError("E_EIF_CERTIFICATE_NOT_YET_VALID", message, {
    details: { notBefore: notBefore.toISOString() },
  });
}
