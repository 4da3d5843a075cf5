import { generateKeyPairSync } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";

import { encodeUserData, purposeNames, readPurpose } from "../../../attest/user-data.ts";
import type { AttestationPolicy } from "../../../attest/verify/attestation-policy.ts";
import { DocumentVerifier } from "../../../attest/verify/document-verifier.ts";
import { createNodeCrypto } from "../../../attest/verify/node-crypto.ts";
import type { CborValue } from "../../../wire/cbor/cbor-value.ts";
import { hex } from "./der-writer.ts";
import { expectRefusal } from "./expect-refusal.ts";
import { AT_MS, registers, rootOf, TestAuthority } from "./test-authority.ts";

let ca: TestAuthority;
let chain: readonly Uint8Array[];
beforeAll(() => {
  ca = new TestAuthority();
  chain = ca.chain();
});
const crypto = createNodeCrypto();
const sha256 = (bytes: Uint8Array): Promise<Uint8Array> | Uint8Array => crypto.sha256(bytes);
const PCR = (index: number): string => (0xa0 + index).toString(16).repeat(48);

async function verify(
  entries: Readonly<Record<string, CborValue>>,
  policy: Omit<AttestationPolicy, "roots">,
  atMs = AT_MS,
) {
  const document = ca.document({ chain, entries });
  return await new DocumentVerifier(crypto).verify(document, { roots: [rootOf(chain)], ...policy }, atMs);
}

describe("registers", () => {
  const release = new Map([[0, PCR(0)], [1, PCR(1)], [2, PCR(2)]]); // prettier-ignore

  test("that are those asked for are accepted; others are not looked at", async () => {
    await verify({}, { measurements: [release] });
    await verify({}, { measurements: [new Map([[3, "0".repeat(96)]])] });
  });

  test("may be those of any of several releases, but not a mixture of two", async () => {
    const older = new Map([[0, PCR(4)], [1, PCR(1)]]); // prettier-ignore
    await verify({}, { measurements: [older, release] });
    const mixed = [new Map([[0, PCR(0)], [1, PCR(4)]]), older]; // prettier-ignore
    await expectRefusal(verify({}, { measurements: mixed }), "E_UNMET_MEASUREMENTS", /PCR1.*nor of 1 other/);
  });

  test("that differ are named, with what was expected and what was found", async () => {
    const measurements = [new Map([[0, PCR(0)], [2, PCR(4)]])]; // prettier-ignore
    const message = `PCR2: expected ${PCR(4)}, found ${PCR(2)}`;
    await expectRefusal(verify({}, { measurements }), "E_UNMET_MEASUREMENTS", message);
  });

  test("that are absent are not taken for zero", async () => {
    const measurements = [new Map([[20, "0".repeat(96)]])];
    await expectRefusal(verify({}, { measurements }), "E_UNMET_MEASUREMENTS", /PCR20.*found none/);
  });

  test.each([
    [[]],
    [[new Map()]],
    [[new Map([[32, PCR(0)]])]],
    [[new Map([[0, PCR(0).toUpperCase()]])]],
    [[new Map([[0, "ab"]])]],
  ])("asked for as %j are a mistake of the caller", async (measurements) => {
    await expect(verify({}, { measurements })).rejects.toThrow(RangeError);
  });
});

describe("debug mode", () => {
  const zero = new Uint8Array(48);
  const pcrs = registers({ 0: zero, 1: zero, 2: zero });

  test("is refused unless it is allowed", async () => {
    await expectRefusal(verify({ pcrs }, {}), "E_UNMET_DEBUG");
    expect((await verify({ pcrs }, { allowDebug: true })).isDebug).toBe(true);
  });

  test("is no way round the registers", async () => {
    const measurements = [new Map([[0, PCR(0)]])];
    await expectRefusal(verify({ pcrs }, { measurements, allowDebug: true }), "E_UNMET_MEASUREMENTS");
    const zeros = [new Map([[0, "0".repeat(96)]])];
    await expectRefusal(verify({ pcrs }, { measurements: zeros }), "E_UNMET_DEBUG");
  });
});

describe("nonce", () => {
  test("that was sent is accepted", async () => {
    await verify({ nonce: hex("00112233") }, { nonce: hex("00112233") });
  });

  test.each<[what: string, nonce: Uint8Array | null]>([
    ["of an earlier question", hex("00112234")],
    ["that is longer", hex("0011223300")],
    ["that is shorter", hex("001122")],
    ["of no bytes", hex("")],
    ["that is none", null],
  ])("%s is refused", async (_what, nonce) => {
    await expectRefusal(verify({ nonce }, { nonce: hex("00112233") }), "E_UNMET_NONCE", /expected 00112233/);
  });

  test("of no bytes cannot be asked for", async () => {
    await expect(verify({ nonce: hex("") }, { nonce: hex("") })).rejects.toThrow(RangeError);
  });
});

describe("age", () => {
  test("may be the greatest that is allowed, and no more", async () => {
    await verify({ timestamp: AT_MS - 300_000 }, { maxAgeMs: 300_000 });
    const older = verify({ timestamp: AT_MS - 300_001 }, { maxAgeMs: 300_000 });
    await expectRefusal(older, "E_UNMET_AGE", /300001 ms before/);
  });

  test("does not matter where it is not asked for, but for a date in the future", async () => {
    await verify({ timestamp: 1 }, {});
    await verify({ timestamp: AT_MS + 60_000 }, {});
    await expectRefusal(verify({ timestamp: AT_MS + 60_001 }, {}), "E_UNMET_AGE", /after/);
    await expectRefusal(verify({ timestamp: AT_MS + 1 }, { maxSkewMs: 0 }), "E_UNMET_AGE");
  });

  test("of a date that no calendar has is told all the same", async () => {
    const timestamp = Number.MAX_SAFE_INTEGER;
    await expectRefusal(verify({ timestamp }, {}), "E_UNMET_AGE", String(timestamp));
  });

  test.each([{ maxAgeMs: -1 }, { maxSkewMs: Number.NaN }])(
    "%j is a mistake of the caller",
    async (policy) => {
      await expect(verify({}, policy)).rejects.toThrow(RangeError);
    },
  );
});

describe("purpose", () => {
  const data = Buffer.from("order 17");

  test("is version, tag and the digest over purpose and data", async () => {
    const userData = await encodeUserData("statement", data, sha256);
    const canonical = Buffer.concat([
      hex("a2 6464617461 48"),
      data,
      hex("67 707572706f7365 69"),
      Buffer.from("statement"),
    ]);
    const digest = await crypto.sha256(canonical);
    expect(Buffer.from(userData).toString("hex")).toBe(`0102${Buffer.from(digest).toString("hex")}`);
  });

  test.each([...purposeNames()])("%s is accepted for itself and for no other", async (name) => {
    const user_data = await encodeUserData(name, data, sha256);
    expect(readPurpose(user_data)).toBe(name);
    await verify({ user_data }, { purpose: { name, data } });
    for (const other of purposeNames().filter((one) => one !== name))
      await expectRefusal(verify({ user_data }, { purpose: { name: other, data } }), "E_UNMET_PURPOSE", name);
  });

  test("over other data is refused", async () => {
    const user_data = await encodeUserData("statement", data, sha256);
    const other = { name: "statement", data: Buffer.from("order 18") } as const;
    await expectRefusal(verify({ user_data }, { purpose: other }), "E_UNMET_PURPOSE", /other data/);
  });

  test("with the tag of another cannot be had by changing the tag", async () => {
    const user_data = await encodeUserData("statement", data, sha256);
    user_data[1] = 1;
    await expectRefusal(
      verify({ user_data }, { purpose: { name: "ra-tls", data } }),
      "E_UNMET_PURPOSE",
      /other data/,
    );
  });

  test.each<[what: string, user_data: Uint8Array | null]>([
    ["none", null],
    ["raw data", data],
    ["a later version", Buffer.concat([hex("0202"), Buffer.alloc(32)])],
    ["an unknown tag", Buffer.concat([hex("0163"), Buffer.alloc(32)])],
    ["a byte too many", Buffer.concat([hex("0102"), Buffer.alloc(33)])],
  ])("is not proven by user data of %s", async (_what, user_data) => {
    const purpose = { name: "statement", data } as const;
    await expectRefusal(verify({ user_data }, { purpose }), "E_UNMET_PURPOSE", /none/);
  });

  test("and raw user data cannot both be asked for", async () => {
    const policy = { purpose: { name: "statement", data } as const, userData: data };
    await expect(verify({}, policy)).rejects.toThrow(RangeError);
  });
});

describe("user data and public key", () => {
  test("are compared where they are asked for", async () => {
    const [userData, publicKey] = [Buffer.from("data"), Buffer.from("key")];
    await verify({ user_data: userData, public_key: publicKey }, { userData, publicKey });
    await expectRefusal(verify({ user_data: hex("00") }, { userData }), "E_UNMET_USER_DATA", /found 00/);
    await expectRefusal(verify({}, { userData }), "E_UNMET_USER_DATA", /none/);
    await expectRefusal(verify({ public_key: hex("00") }, { publicKey }), "E_UNMET_PUBLIC_KEY", /found 00/);
    await expectRefusal(verify({}, { publicKey }), "E_UNMET_PUBLIC_KEY", /none/);
  });

  test("of somebody between caller and enclave, with a key of his own, are refused", async () => {
    const spkiOf = (): Uint8Array =>
      generateKeyPairSync("ec", { namedCurve: "P-384" }).publicKey.export({ type: "spki", format: "der" });
    const [enclave, stranger] = [spkiOf(), spkiOf()];
    const user_data = await encodeUserData("ra-tls", enclave, sha256);
    const genuine = { public_key: enclave, user_data };
    await verify(genuine, { publicKey: enclave, purpose: { name: "ra-tls", data: enclave } });
    // The stranger shows the enclave's document, but the connection has his key.
    const policy = { publicKey: stranger, purpose: { name: "ra-tls", data: stranger } as const };
    await expectRefusal(verify(genuine, policy), "E_UNMET_PURPOSE");
    // The host has a document made that states his key: it says that it is a statement.
    const stated = await encodeUserData("statement", stranger, sha256);
    await expectRefusal(verify({ user_data: stated }, policy), "E_UNMET_PURPOSE", /statement/);
  });
});

describe("the order", () => {
  test("is evidence first: a forged document that would not do either is called forged", async () => {
    const document = ca.document({ chain, signature: () => new Uint8Array(96).fill(1) });
    const policy = { roots: [rootOf(chain)], nonce: hex("00") };
    await expectRefusal(new DocumentVerifier(crypto).verify(document, policy, AT_MS), "E_EVIDENCE_SIGNATURE");
  });
});
