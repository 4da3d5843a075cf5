/**
 * The root of development documents: one for each user, made when it is first needed.
 *
 *   <directory>/root-key.pem   0600: the key (PKCS#8), then the certificate
 *   <directory>/root.pem       0600: the certificate alone, to be handed on; written again where it is not the same
 *
 * in a directory 0700. Key and certificate are one file, which is linked to its name when it is whole: two programs that
 * begin at once agree on one root, and one that is killed halfway leaves none.
 */
import "reflect-metadata";

import { createHash, createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { join } from "node:path";

import { X509Certificate as ParsedCertificate } from "@peculiar/x509";

import {
  broken,
  createOwnFile,
  holdsText,
  makeOwnDirectory,
  readOwnFile,
  replaceOwnFile,
} from "./authority-files.ts";
import { ROOT } from "./certificate-levels.ts";
import { type Issuer, KEY_ALGORITHM, makeKeys, writeCertificate } from "./certificate-writer.ts";

export interface DevelopmentAuthority extends Issuer {
  /** DER. */
  readonly rootCertificate: Uint8Array;
  /** Lower-case hex. */
  readonly rootSha256: string;
  /** PEM of the certificate, without the key. */
  readonly rootPath: string;
}

export interface AuthorityOptions {
  readonly directory: string;
  readonly nowMs: () => number;
}

const KEY_FILE = "root-key.pem";
const CERTIFICATE_FILE = "root.pem";
const LIFE_YEARS = 30;
const BACKDATED_MS = 3_600_000;
/** Two programs may make it at once, and a third may remove it between. */
const ATTEMPTS = 3;

/**
 * @throws E_DEV_AUTHORITY_ACCESS the folder or the key belongs to another user, or others can read it;
 *   E_DEV_AUTHORITY_FILE what is in the file is no root that is valid now
 */
export async function openDevelopmentAuthority(options: AuthorityOptions): Promise<DevelopmentAuthority> {
  const { directory, nowMs } = options;
  const path = join(directory, KEY_FILE);
  await makeOwnDirectory(directory);
  const text = await readOrCreate(path, nowMs);
  const { key, certificate } = parseRoot(text, path);
  assertValid(certificate, nowMs(), path);
  const keys = await importKeys(key, certificate, path);
  const rootPath = join(directory, CERTIFICATE_FILE);
  const pem = certificate.toString();
  if (!(await holdsText(rootPath, pem))) await replaceOwnFile(rootPath, pem);
  return {
    rootPath,
    rootCertificate: new Uint8Array(certificate.raw),
    rootSha256: createHash("sha256").update(certificate.raw).digest("hex"),
    subject: new ParsedCertificate(certificate.raw).subjectName,
    keys,
  };
}

async function readOrCreate(path: string, nowMs: () => number): Promise<string> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    const known = await readOwnFile(path);
    if (known !== undefined) return known;
    const made = await makeRoot(nowMs());
    if (await createOwnFile(path, made)) return made;
  }
  throw broken(path, "it comes and goes");
}

/** @returns PEM of key and certificate */
async function makeRoot(nowMs: number): Promise<string> {
  const keys = await makeKeys(true);
  const end = new Date(nowMs);
  end.setUTCFullYear(end.getUTCFullYear() + LIFE_YEARS);
  const subject = ROOT.subject();
  const certificate = await writeCertificate({
    subject,
    issuer: { subject, keys },
    notBeforeMs: nowMs - BACKDATED_MS,
    notAfterMs: end.getTime(),
    serialBytes: ROOT.serialBytes,
    publicKey: keys.publicKey,
    extensions: await ROOT.extensions(keys.publicKey),
  });
  const der = Buffer.from(await crypto.subtle.exportKey("pkcs8", keys.privateKey));
  const key = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
  return `${key.export({ type: "pkcs8", format: "pem" })}${new X509Certificate(certificate).toString()}`;
}

function parseRoot(text: string, path: string): { key: KeyObject; certificate: X509Certificate } {
  try {
    const key = createPrivateKey(text);
    const certificate = new X509Certificate(text);
    if (key.asymmetricKeyDetails?.namedCurve !== "secp384r1") throw new Error("the key is not on P-384");
    if (!certificate.checkPrivateKey(key)) throw new Error("key and certificate do not belong together");
    if (!certificate.ca || !certificate.verify(certificate.publicKey))
      throw new Error("the certificate is no root");
    return { key, certificate };
  } catch (error) {
    throw broken(path, error instanceof Error ? error.message : String(error), error);
  }
}

function assertValid({ validFromDate, validToDate }: X509Certificate, nowMs: number, path: string): void {
  if (nowMs >= validFromDate.getTime() && nowMs <= validToDate.getTime()) return;
  const [from, to, now] = [validFromDate, validToDate, new Date(nowMs)].map((date) => date.toISOString());
  throw broken(path, `it is valid from ${from} to ${to}, and it is ${now} by the clock`);
}

async function importKeys(
  key: KeyObject,
  certificate: X509Certificate,
  path: string,
): Promise<Issuer["keys"]> {
  const der = key.export({ type: "pkcs8", format: "der" });
  const spki = certificate.publicKey.export({ type: "spki", format: "der" });
  try {
    return {
      privateKey: await crypto.subtle.importKey("pkcs8", der, KEY_ALGORITHM, false, ["sign"]),
      publicKey: await crypto.subtle.importKey("spki", spki, KEY_ALGORITHM, true, ["verify"]),
    };
  } catch (error) {
    // Its two halves are compared here only.
    throw broken(path, "the key is not whole", error);
  }
}
