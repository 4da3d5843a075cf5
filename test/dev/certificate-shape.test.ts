import { execFile } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test, type TestContext } from "vitest";

import { DocumentVerifier } from "../../attest/verify/document-verifier.ts";
import { createNodeCrypto } from "../../attest/verify/node-crypto.ts";
import { CertificateChain, type Leaf } from "../../dev/certificate-chain.ts";
import { openDevelopmentAuthority } from "../../dev/development-authority.ts";
import {
  decodeAttestationPayload,
  MAX_CERTIFICATE_BYTES,
  MAX_DOCUMENT_BYTES,
} from "../../wire/attestation-document.ts";
import { decodeCoseSign1 } from "../../wire/cose/cose-sign1.ts";
import { encodeNsmRequest } from "../../wire/nsm/nsm-requests.ts";
import { decodeNsmResponse, isNsmRefusal } from "../../wire/nsm/nsm-responses.ts";
import { pathOf, whyMissing } from "../attest/verify/vectors.ts";
import { type CertificateAnatomy, dissect } from "./certificate-anatomy.ts";
import { DevelopmentBed, MODULE_ID } from "./nsm-bed.ts";

const run = promisify(execFile);
const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
const AUTHORITY_USAGE = "!keyUsage(digitalSignature, keyCertSign, cRLSign)";
/** As devices write them since 2025; those of 2022 have no key identifiers in the certificate of the instance. */
const VECTOR = { name: "attestation-2025-11-10-indefinite-pcr16.cbor" };
const NAMES = ["root", "regional", "zonal", "instance", "leaf"] as const;

interface Level {
  readonly name: (typeof NAMES)[number];
  readonly subject: readonly string[];
  readonly commonName: RegExp;
  /** From the moment it is made; the root's is counted in years. */
  readonly lifeMs: number | undefined;
  readonly backdatedMs: number;
  readonly serialBytes: number;
  readonly extensions: readonly string[];
}

const OWNER = ["C printableString", "O utf8String", "OU utf8String", "CN utf8String"];
const PLACE = ["C printableString", "ST utf8String", "L utf8String", "O utf8String", "OU utf8String", "CN utf8String"]; // prettier-ignore

/** What the chain of a document is like (AWS's, but for names), written down here a second time on purpose. */
const LEVELS: readonly Level[] = [
  {
    name: "root",
    subject: OWNER,
    commonName: /^development\.nitro-enclaves$/,
    lifeMs: undefined,
    backdatedMs: HOUR_MS,
    serialBytes: 16,
    extensions: ["!basicConstraints(CA:TRUE)", "subjectKeyIdentifier", AUTHORITY_USAGE],
  },
  {
    name: "regional",
    subject: OWNER,
    commonName: /^[0-9a-f]{16}\.dev-1\.development\.nitro-enclaves$/,
    lifeMs: 20 * DAY_MS,
    backdatedMs: HOUR_MS,
    serialBytes: 16,
    extensions: ["!basicConstraints(CA:TRUE, pathlen:2)", "authorityKeyIdentifier", "subjectKeyIdentifier", AUTHORITY_USAGE, "cRLDistributionPoints"],
  },
  {
    name: "zonal",
    subject: ["CN utf8String", "OU utf8String", "O utf8String", "C printableString", "ST utf8String", "L utf8String"],
    commonName: /^[0-9a-f]{16}\.zonal\.dev-1\.development\.nitro-enclaves$/,
    lifeMs: 6 * DAY_MS,
    backdatedMs: HOUR_MS,
    serialBytes: 16,
    extensions: ["!basicConstraints(CA:TRUE, pathlen:1)", "authorityKeyIdentifier", "subjectKeyIdentifier", AUTHORITY_USAGE, "cRLDistributionPoints"],
  },
  {
    name: "instance",
    subject: PLACE,
    commonName: /^i-0123456789abcdef0\.dev-1\.development\.nitro-enclaves$/,
    lifeMs: DAY_MS,
    backdatedMs: 0,
    serialBytes: 20,
    extensions: ["!basicConstraints(CA:TRUE, pathlen:0)", "!keyUsage(keyCertSign)", "subjectKeyIdentifier", "authorityKeyIdentifier"],
  },
  {
    name: "leaf",
    subject: PLACE,
    commonName: /^i-0123456789abcdef0-enc0123456789abcdef\.dev-1\.development$/,
    lifeMs: 3 * HOUR_MS,
    backdatedMs: 3_000,
    serialBytes: 16,
    extensions: ["!basicConstraints(CA:FALSE)", "keyUsage(digitalSignature, nonRepudiation)"],
  },
]; // prettier-ignore

/** Not a whole second, as clocks are. */
const MADE_MS = Date.parse("2026-03-01T12:00:00Z") + 789.25;

let bed: DevelopmentBed;
/** Certificates of a document made at MADE_MS, the root first. */
let ders: readonly Uint8Array[];
let chain: readonly CertificateAnatomy[];
beforeAll(async () => {
  bed = await DevelopmentBed.open(() => MADE_MS);
  ders = chainOf(await attest(() => MADE_MS));
  chain = ders.map((der) => dissect(der));
});
afterAll(async () => await bed[Symbol.asyncDispose]());

async function attest(nowMs: () => number, moduleId = MODULE_ID): Promise<Uint8Array> {
  return await documentOf(bed.createNsm({ nowMs, moduleId }));
}

async function documentOf(nsm: { handle(request: Uint8Array): Promise<Uint8Array> }): Promise<Uint8Array> {
  const request = { kind: "Attestation", userData: null, nonce: null, publicKey: null } as const;
  const response = decodeNsmResponse(await nsm.handle(encodeNsmRequest(request)), request);
  if (isNsmRefusal(response)) throw new Error(response.error);
  return response.document;
}

function chainOf(document: Uint8Array): Uint8Array[] {
  const { cabundle, certificate } = decodeAttestationPayload(
    decodeCoseSign1(document, MAX_DOCUMENT_BYTES).payload,
  );
  return [...cabundle, certificate];
}

function wholeSecond(ms: number): number {
  return Math.floor(ms / 1_000) * 1_000;
}

describe("the chain of a development document", () => {
  test("has five certificates, the root first, each naming the one before it to the byte", () => {
    expect(chain).toHaveLength(LEVELS.length);
    expect(Buffer.from(ders[0] ?? [])).toEqual(Buffer.from(bed.authority.rootCertificate));
    for (const [index, { issuer }] of chain.entries())
      expect(issuer).toEqual(chain[Math.max(0, index - 1)]?.subject);
  });

  test.each(LEVELS)("has a $name with its extensions in AWS's order", ({ name, extensions }) => {
    expect(chain[NAMES.indexOf(name)]?.extensions).toEqual(extensions);
  });

  test.each(LEVELS)("has a $name whose every name says that it is of development", (level) => {
    const { name, commonName } = level;
    const subject = chain[NAMES.indexOf(name)]?.subject ?? [];
    expect(subject.map(({ type }) => type)).toEqual(level.subject);
    expect(subject.find(({ type }) => type.startsWith("CN "))?.value).toMatch(commonName);
    for (const { type, value } of subject)
      if (type === "C printableString") expect(value).toBe("US");
      else expect(value).toContain("development");
  });

  test.each(LEVELS.slice(1))("has a $name that lives as long as AWS's", ({ name, lifeMs, backdatedMs }) => {
    const { notBeforeMs = 0, notAfterMs, timeTypes } = chain[NAMES.indexOf(name)] ?? {};
    expect([notBeforeMs, notAfterMs]).toEqual([wholeSecond(MADE_MS) - backdatedMs, wholeSecond(MADE_MS) + (lifeMs ?? 0)]);
    expect(timeTypes).toEqual(["utcTime", "utcTime"]);
  }); // prettier-ignore

  test("has a root of thirty years", () => {
    const [root] = chain;
    const dates = [root?.notBeforeMs, root?.notAfterMs].map((ms) => new Date(ms ?? 0).toISOString());
    expect(dates).toEqual(["2026-03-01T11:00:00.000Z", "2056-03-01T12:00:00.000Z"]);
    expect(root?.timeTypes).toEqual(["utcTime", "generalizedTime"]);
  });

  test("has positive serial numbers of AWS's lengths, never the same", () => {
    expect(chain.map(({ serial }) => serial.length / 2)).toEqual(
      LEVELS.map(({ serialBytes }) => serialBytes),
    );
    for (const { serial } of chain) expect(Number.parseInt(serial.slice(0, 2), 16)).toBeLessThan(0x80);
    expect(new Set(chain.map(({ serial }) => serial)).size).toBe(5);
  });

  test("is P-384 and ecdsa-with-SHA384 throughout, with other keys on each level", () => {
    for (const { publicKey, signatureAlgorithms } of chain)
      expect([publicKey, ...signatureAlgorithms]).toEqual(["id-ecPublicKey secp384r1", "ecdsa-with-SHA384", "ecdsa-with-SHA384"]);
    const keys = ders.map((der) => new X509Certificate(der).publicKey.export({ type: "spki", format: "der" }).toString("hex"));
    expect(new Set(keys).size).toBe(5);
  }); // prettier-ignore

  test("has key identifiers that lead from one to the next", () => {
    const [root, regional, zonal, instance, leaf] = chain;
    expect(regional?.authorityKeyId).toBe(root?.subjectKeyId);
    expect(zonal?.authorityKeyId).toBe(regional?.subjectKeyId);
    expect(instance?.authorityKeyId).toBe(zonal?.subjectKeyId);
    for (const { subjectKeyId } of chain.slice(0, -1)) expect(subjectKeyId).toMatch(/^[0-9a-f]{40}$/);
    expect([root?.authorityKeyId, leaf?.subjectKeyId, leaf?.authorityKeyId]).toEqual([undefined, undefined, undefined]);
  }); // prettier-ignore

  test("points at lists of revoked certificates where nobody can be asked", () => {
    for (const der of ders.slice(1, 3))
      expect(Buffer.from(der).toString("latin1")).toMatch(/http:\/\/crl\.development\.invalid\/crl\/[0-9a-f-]{36}\.crl/);
  }); // prettier-ignore

  test.each([
    ["the longest name", `i-${"0".repeat(30)}-enc${"f".repeat(28)}`],
    ["the longest name without an enclave in it", "m".repeat(64)],
    ["a name of other letters", "i-ñøü-enc☃0"],
    ["a name that looks like more than one", "i-a,CN=aws.nitro-enclaves+O=Amazon-enc1"],
  ])("is one that verifies for a module of %s", async (_what, moduleId) => {
    const document = await attest(() => MADE_MS, moduleId);
    for (const der of chainOf(document)) {
      expect(der.length).toBeLessThanOrEqual(MAX_CERTIFICATE_BYTES);
      expect(dissect(der).subject.length).toBeLessThanOrEqual(6);
    }
    const leaf = dissect(chainOf(document)[4] ?? new Uint8Array());
    expect(leaf.subject.at(-1)).toEqual({ type: "CN utf8String", value: `${moduleId}.dev-1.development` });
    expect(await authenticate(document, MADE_MS)).toMatchObject({ moduleId });
  });
});

async function authenticate(document: Uint8Array, atMs: number) {
  const roots = [bed.authority.rootSha256];
  return await new DocumentVerifier(createNodeCrypto()).authenticate(document, { roots, atMs });
}

describe("the chain of a genuine document has the same shape", () => {
  async function genuine(skip: TestContext["skip"]): Promise<CertificateAnatomy[]> {
    const why = await whyMissing(VECTOR);
    skip(why !== undefined, why);
    return chainOf(await readFile(pathOf(VECTOR))).map((der) => dissect(der));
  }

  test.for(NAMES)("the %s: all elements, in order", async (name, { skip }) => {
    const theirs = (await genuine(skip))[NAMES.indexOf(name)];
    const ours = chain[NAMES.indexOf(name)];
    // Thirty years from now the two-digit years are over, in 2049 they were not.
    const comparable = ours?.skeleton.replace("generalizedTime", "utcTime");
    expect(comparable).toBe(theirs?.skeleton);
    expect(ours?.extensions).toEqual(theirs?.extensions);
    expect(ours?.signatureAlgorithms).toEqual(theirs?.signatureAlgorithms);
    expect(ours?.publicKey).toBe(theirs?.publicKey);
  });

  test("with lives of about that length", async ({ skip }) => {
    const lifeOf = ({ notBeforeMs, notAfterMs }: CertificateAnatomy): number => notAfterMs - notBeforeMs;
    const theirs = (await genuine(skip)).map(lifeOf);
    const ours = chain.map(lifeOf);
    expect([ours[1], ours[3], ours[4]]).toEqual([theirs[1], theirs[3], theirs[4]]);
    // AWS's are of five to six days, to the hour as it comes.
    expect((ours[2] ?? 0) / (theirs[2] ?? 1)).toBeCloseTo(1, 0);
    expect((ours[0] ?? 0) / (theirs[0] ?? 1)).toBeCloseTo(1, 2);
  });
});

describe("others verify the chain", () => {
  /** Files of the chain, for programs. */
  async function writeChain(directory: string): Promise<Record<(typeof NAMES)[number] | "between", string>> {
    const pem = (der: Uint8Array | undefined): string => new X509Certificate(der ?? "").toString();
    const paths = { root: "", regional: "", zonal: "", instance: "", leaf: "", between: join(directory, "between.pem") };
    for (const [index, name] of NAMES.entries()) {
      paths[name] = join(directory, `${name}.pem`);
      await writeFile(paths[name], pem(ders[index]));
    }
    await writeFile(paths.between, ders.slice(1, 4).map(pem).join(""));
    return paths;
  } // prettier-ignore

  async function openssl(arguments_: readonly string[]): Promise<{ status: number; said: string }> {
    try {
      const { stdout, stderr } = await run("openssl", arguments_);
      return { status: 0, said: stdout + stderr };
    } catch (error) {
      const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
      return { status: code, said: `${stdout}${stderr}` };
    }
  }

  async function withOpenssl(
    skip: TestContext["skip"],
    work: (paths: Awaited<ReturnType<typeof writeChain>>) => Promise<void>,
  ): Promise<void> {
    const isThere = await run("openssl", ["version"]).then(
      () => true,
      () => false,
    );
    skip(!isThere, "the program openssl is not installed");
    const directory = await mkdtemp(join(tmpdir(), "chain-"));
    try {
      await work(await writeChain(directory));
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  }
  const at = (ms: number): string[] => ["-attime", String(Math.floor(ms / 1_000))];

  test("openssl, from the root down to the leaf, at its time and not three hours later", async ({ skip }) => {
    await withOpenssl(skip, async ({ root, between, leaf }) => {
      const chained = ["-CAfile", root, "-no-CApath", "-no-CAstore", "-untrusted", between, leaf];
      expect(await openssl(["verify", ...at(MADE_MS), ...chained])).toMatchObject({ status: 0, said: `${leaf}: OK\n` });
      const last = MADE_MS + 3 * HOUR_MS;
      expect(await openssl(["verify", ...at(last - 2_000), ...chained])).toMatchObject({ status: 0 });
      expect(await openssl(["verify", ...at(last + 2_000), ...chained])).toMatchObject({
        status: 2,
        said: expect.stringContaining("error 10 at 0 depth lookup") as unknown,
      });
    });
  }); // prettier-ignore

  test("openssl, each by the one above it, and by no other", async ({ skip }) => {
    await withOpenssl(skip, async (paths) => {
      for (const [index, name] of NAMES.entries())
        for (const issuer of NAMES.slice(0, 4)) {
          const trusted = ["-partial_chain", "-trusted", paths[issuer], "-no-CAfile", "-no-CApath", "-no-CAstore"];
          const { status } = await openssl(["verify", ...at(MADE_MS), ...trusted, paths[name]]);
          const isRight = issuer === NAMES[Math.max(0, index - 1)] || issuer === name;
          expect([name, issuer, status === 0]).toEqual([name, issuer, isRight]);
        }
    });
  }); // prettier-ignore

  test("openssl not below the root of somebody else", async ({ skip }) => {
    await withOpenssl(skip, async ({ root, between, leaf }) => {
      const directory = await mkdtemp(join(bed.directory, "other-"));
      const other = await openDevelopmentAuthority({ directory, nowMs: () => MADE_MS });
      expect(other.subject.toString()).toBe(bed.authority.subject.toString());
      const chained = ["-CAfile", other.rootPath, "-no-CApath", "-no-CAstore", "-untrusted", between, leaf];
      expect((await openssl(["verify", ...at(MADE_MS), ...chained])).status).toBe(2);
      expect(root).not.toBe(other.rootPath);
    });
  });

  test("openssl reads what is written on them", async ({ skip }) => {
    await withOpenssl(skip, async ({ regional, leaf }) => {
      const { said } = await openssl(["x509", "-noout", "-text", "-in", regional]);
      for (const line of ["CA:TRUE, pathlen:2", "Digital Signature, Certificate Sign, CRL Sign", "NIST CURVE: P-384", "URI:http://crl.development.invalid/crl/"])
        expect(said).toContain(line);
      expect((await openssl(["x509", "-noout", "-text", "-in", leaf])).said).toContain("Digital Signature, Non Repudiation");
    });
  }); // prettier-ignore

  test("node:crypto", () => {
    const certificates = ders.map((der) => new X509Certificate(der));
    for (const [index, certificate] of certificates.entries()) {
      const above = certificates[Math.max(0, index - 1)];
      if (above === undefined) throw new Error("nothing above");
      expect(certificate.verify(above.publicKey)).toBe(true);
      expect(certificate.ca).toBe(index < 4);
      expect(certificate.publicKey.asymmetricKeyDetails?.namedCurve).toBe("secp384r1");
      for (const other of certificates.filter((each) => each !== above))
        expect(certificate.verify(other.publicKey)).toBe(false);
    }
    // Where the key usage lets the one above sign certificates.
    expect(certificates.slice(1).map((each, index) => each.checkIssued(certificates[index] ?? each))).toEqual([true, true, true, true]); // prettier-ignore
  });
});

describe("certificates are made anew in time", () => {
  /** Which certificates of two chains are the same, the root first. */
  const same = (one: Leaf, other: Leaf): boolean[] =>
    [...one.bundle, one.certificate].map((der, index) =>
      Buffer.from(der).equals([...other.bundle, other.certificate][index] ?? new Uint8Array()),
    );

  /** A chain that was made whole at 0 and looked at again; leaves are made between, as they are in use. */
  async function after(...offsetsMs: readonly number[]): Promise<boolean[]> {
    let nowMs = MADE_MS;
    const certificates = new CertificateChain(bed.authority, MODULE_ID, () => nowMs);
    let [before, last] = [await certificates.leaf(), await certificates.leaf()];
    for (const offsetMs of offsetsMs) {
      nowMs = MADE_MS + offsetMs;
      [before, last] = [last, await certificates.leaf()];
    }
    return same(before, last);
  }
  const FRACTION_MS = MADE_MS - wholeSecond(MADE_MS);

  test.each([
    ["nothing at once", [0], [true, true, true, true, true]],
    ["nothing with half an hour left of the leaf", [2.5 * HOUR_MS - FRACTION_MS], [true, true, true, true, true]],
    ["the leaf with less than that", [2.5 * HOUR_MS - FRACTION_MS + 1], [true, true, true, true, false]],
    ["the leaf when it is long over", [20 * HOUR_MS], [true, true, true, true, false]],
    ["the leaf alone with three hours left of the instance", [19 * HOUR_MS, 21 * HOUR_MS - FRACTION_MS], [true, true, true, true, true]],
    ["the instance's with less than that", [19 * HOUR_MS, 21 * HOUR_MS - FRACTION_MS + 1], [true, true, true, false, false]],
    ["the zonal one with less than a day left", [4.9 * DAY_MS, 5 * DAY_MS - FRACTION_MS + 1], [true, true, false, false, false]],
    ["the regional one with less than six days left", [13.9 * DAY_MS, 14 * DAY_MS - FRACTION_MS + 1], [true, false, false, false, false]],
    ["all but the root after a year", [365 * DAY_MS], [true, false, false, false, false]],
    ["the leaf and the instance's where the clock goes back a second", [-1_000], [true, true, true, false, false]],
    ["nothing where it goes back within that second", [-FRACTION_MS], [true, true, true, true, true]],
  ])("%s", async (_what, offsetsMs, expected) => {
    expect(await after(...offsetsMs)).toEqual(expected);
  }); // prettier-ignore

  test("nothing that is signed lives longer than what signed it, for a month of use", async () => {
    let nowMs = MADE_MS;
    const certificates = new CertificateChain(bed.authority, MODULE_ID, () => nowMs);
    const seen = NAMES.map(() => new Set<string>());
    for (const end = MADE_MS + 31 * DAY_MS; nowMs < end; nowMs += 47 * MINUTE_MS) {
      const leaf = await certificates.leaf();
      const all = [...leaf.bundle, leaf.certificate].map((der) => dissect(der));
      for (const [index, { serial, notAfterMs, notBeforeMs }] of all.entries()) {
        seen[index]?.add(serial);
        expect(notBeforeMs).toBeLessThanOrEqual(nowMs);
        expect(notAfterMs).toBeGreaterThanOrEqual(nowMs + 30 * MINUTE_MS);
        expect(notAfterMs).toBeLessThanOrEqual(all[index - 1]?.notAfterMs ?? Infinity);
      }
    }
    const [root, regional, zonal, instance, leaf] = seen.map(({ size }) => size);
    expect([root, regional]).toEqual([1, 3]);
    // No more often than there is need for it: a zonal one serves five days, an instance's 21 hours, a leaf 2.5 hours.
    expect(zonal).toBeLessThanOrEqual(9);
    expect(instance).toBeLessThanOrEqual(45);
    expect(leaf).toBeLessThanOrEqual(360);
  });

  test("a document verifies when it is made, wherever the clock jumps", async () => {
    const offsets = fc.integer({ min: -50 * MINUTE_MS, max: 60 * DAY_MS });
    await fc.assert(
      fc.asyncProperty(fc.array(offsets, { minLength: 1, maxLength: 8 }), async (jumps) => {
        let nowMs = MADE_MS;
        const nsm = bed.createNsm({ nowMs: () => nowMs });
        for (const jump of jumps) {
          nowMs = MADE_MS + jump;
          const document = await authenticate(await documentOf(nsm), nowMs);
          expect(document.timestampMs).toBe(Math.floor(nowMs));
          // And for the half hour in which somebody looks at it.
          await authenticate(await documentOf(nsm), nowMs + 30 * MINUTE_MS);
        }
      }),
      { numRuns: 15 },
    );
  });

  test("also where the years of two digits end", async () => {
    const directory = join(bed.directory, "2049");
    const madeMs = Date.parse("2049-12-31T23:00:00Z");
    const authority = await openDevelopmentAuthority({ directory, nowMs: () => madeMs });
    for (const [nowMs, regional] of [
      [madeMs, ["utcTime", "generalizedTime"]],
      [madeMs + 2 * HOUR_MS, ["generalizedTime", "generalizedTime"]],
    ] as const) {
      const document = await documentOf(bed.createNsm({ authority, nowMs: () => nowMs }));
      const anchor = { roots: [authority.rootSha256], atMs: nowMs };
      await new DocumentVerifier(createNodeCrypto()).authenticate(document, anchor);
      expect(dissect(chainOf(document)[1] ?? new Uint8Array()).timeTypes).toEqual(regional);
    }
  });

  test("a chain of one module vouches for no other: each has its own authorities", async () => {
    const [one, other] = [chainOf(await attest(() => MADE_MS)), chainOf(await attest(() => MADE_MS))];
    expect(one.map((der, index) => Buffer.from(der).equals(other[index] ?? new Uint8Array()))).toEqual([true, false, false, false, false]); // prettier-ignore
  });
});
