/** What is remembered of chains saves work, and decides nothing. */
import { beforeAll, describe, expect, test } from "vitest";

import { DocumentVerifier } from "../../../attest/verify/document-verifier.ts";
import { createNodeCrypto } from "../../../attest/verify/node-crypto.ts";
import { RecentMap } from "../../../attest/verify/recent-map.ts";
import type { VerificationCrypto } from "../../../attest/verify/verification-crypto.ts";
import { utcTime } from "./der-writer.ts";
import { expectRefusal } from "./expect-refusal.ts";
import { AT_MS, rootOf, TestAuthority } from "./test-authority.ts";

const HOUR_MS = 3_600_000;

let ca: TestAuthority;
let chain: readonly Uint8Array[];
beforeAll(() => {
  ca = new TestAuthority();
  chain = ca.chain();
});

/** Counts the signatures that are computed: four of a chain, one of a document. */
function countSignatures(): { readonly crypto: VerificationCrypto; readonly count: () => number } {
  const crypto = createNodeCrypto();
  let signatures = 0;
  return {
    crypto: {
      sha256: (bytes) => crypto.sha256(bytes),
      verifyEs384: (spki, signature, data) => {
        signatures += 1;
        return crypto.verifyEs384(spki, signature, data);
      },
    },
    count: () => signatures,
  };
}

function anchorOf(certificates: readonly Uint8Array[], atMs = AT_MS) {
  return { roots: [rootOf(certificates)], atMs };
}

describe("a chain that was verified", () => {
  test("is not verified again, but every document is", async () => {
    const { crypto, count } = countSignatures();
    const verifier = new DocumentVerifier(crypto);
    await verifier.authenticate(ca.document({ chain }), anchorOf(chain));
    expect(count()).toBe(5);
    for (let index = 0; index < 10; index += 1)
      await verifier.authenticate(ca.document({ chain }), anchorOf(chain));
    expect(count()).toBe(15);
    const forged = ca.document({ chain, signature: () => new Uint8Array(96).fill(1) });
    await expectRefusal(verifier.authenticate(forged, anchorOf(chain)), "E_EVIDENCE_SIGNATURE");
    expect(count()).toBe(16);
  });

  test("is trusted no longer than it is valid, and below no other root", async () => {
    const verifier = new DocumentVerifier(createNodeCrypto());
    const document = ca.document({ chain });
    await verifier.authenticate(document, anchorOf(chain));
    for (const atMs of [AT_MS - 2 * HOUR_MS, AT_MS + 3 * HOUR_MS])
      await expectRefusal(verifier.authenticate(document, anchorOf(chain, atMs)), "E_EVIDENCE_VALIDITY");
    const other = { roots: ["0".repeat(64)], atMs: AT_MS };
    await expectRefusal(verifier.authenticate(document, other), "E_EVIDENCE_ROOT");
    await verifier.authenticate(document, anchorOf(chain));
  });

  test("vouches for no other that has its leaf, its root or all of its names", async () => {
    const verifier = new DocumentVerifier(createNodeCrypto());
    await verifier.authenticate(ca.document({ chain }), anchorOf(chain));
    const [root = new Uint8Array(), , , , leaf = root] = chain;
    const anchor = anchorOf(chain);
    const stranger = new TestAuthority();
    const forged = [root, ...stranger.chain().slice(1)];
    const signedBy = stranger.keys.leaf.privateKey;
    await expectRefusal(verifier.authenticate(ca.document({ chain: forged, signedBy }), anchor), "E_EVIDENCE_CHAIN"); // prettier-ignore
    await expectRefusal(verifier.authenticate(ca.document({ chain: [root, leaf] }), anchor), "E_EVIDENCE_CHAIN"); // prettier-ignore
    const renewed = chain.with(4, ca.certificate("leaf", "instance", { notAfter: utcTime(AT_MS - 1000) }));
    await expectRefusal(
      verifier.authenticate(ca.document({ chain: renewed }), anchor),
      "E_EVIDENCE_VALIDITY",
    );
  });

  test("is another one where the same bytes are other certificates", async () => {
    const verifier = new DocumentVerifier(createNodeCrypto());
    await verifier.authenticate(ca.document({ chain }), anchorOf(chain));
    const [root = new Uint8Array(), regional = root, zonal = root, instance = root, leaf = root] = chain;
    const joined = [root, Buffer.concat([regional, zonal]), instance, leaf];
    const shifted = [root, regional.subarray(0, -1), Buffer.concat([regional.subarray(-1), zonal]), instance, leaf]; // prettier-ignore
    for (const certificates of [joined, shifted]) {
      const attempt = verifier.authenticate(ca.document({ chain: certificates }), anchorOf(chain));
      await expectRefusal(attempt, "E_EVIDENCE_CERTIFICATE");
    }
  });

  test("cannot be made to live longer by who was told of it", async () => {
    const verifier = new DocumentVerifier(createNodeCrypto());
    const document = ca.document({ chain });
    const first = await verifier.authenticate(document, anchorOf(chain));
    for (const link of first.chain) Reflect.set(link, "notAfterMs", Infinity);
    Reflect.set(first.chain, "length", 0);
    for (const register of first.pcrs.values()) register.fill(0xff);
    const late = anchorOf(chain, AT_MS + 3 * HOUR_MS);
    await expectRefusal(verifier.authenticate(document, late), "E_EVIDENCE_VALIDITY");
    const second = await verifier.authenticate(document, anchorOf(chain));
    expect(second.pcrs.get(0)).toEqual(new Uint8Array(48).fill(0xa0));
    expect(second.chain).toHaveLength(5);
  });
});

describe("a chain that was refused", () => {
  test("is refused again, each time for its own reason", async () => {
    const { crypto, count } = countSignatures();
    const verifier = new DocumentVerifier(crypto);
    const signedBy = new TestAuthority().keys.leaf.privateKey;
    const broken = ca.chain({ instance: { signedBy } });
    for (const signatures of [3, 6, 9]) {
      const attempt = verifier.authenticate(ca.document({ chain: broken }), anchorOf(broken));
      await expectRefusal(attempt, "E_EVIDENCE_CHAIN");
      expect(count()).toBe(signatures);
    }
  });

  test("for its time only is taken when the time has come", async () => {
    const verifier = new DocumentVerifier(createNodeCrypto());
    const document = ca.document({ chain });
    await expectRefusal(
      verifier.authenticate(document, anchorOf(chain, AT_MS - 2 * HOUR_MS)),
      "E_EVIDENCE_VALIDITY",
    );
    await verifier.authenticate(document, anchorOf(chain));
  });
});

describe("memory", () => {
  test("is of the chains that came last, as many as allowed", async () => {
    const { crypto, count } = countSignatures();
    const verifier = new DocumentVerifier(crypto, { maxCachedChains: 2 });
    const [a, b, c] = [ca.chain(), ca.chain(), ca.chain()];
    const signaturesFor = async (certificates: readonly Uint8Array[]): Promise<number> => {
      const before = count();
      await verifier.authenticate(ca.document({ chain: certificates }), anchorOf(certificates));
      return count() - before;
    };
    const KNOWN = 1;
    const NEW = 5;
    const seen: number[] = [];
    // The third takes the place of the one that was not asked for the longest.
    for (const certificates of [a, b, a, b, a, c, a, c, b, a]) seen.push(await signaturesFor(certificates));
    expect(seen).toEqual([NEW, NEW, KNOWN, KNOWN, KNOWN, NEW, KNOWN, KNOWN, NEW, NEW]);
  });

  test("may be of none", async () => {
    const { crypto, count } = countSignatures();
    const verifier = new DocumentVerifier(crypto, { maxCachedChains: 0 });
    for (const expected of [5, 10]) {
      await verifier.authenticate(ca.document({ chain }), anchorOf(chain));
      expect(count()).toBe(expected);
    }
  });

  test("never has more than its limit", () => {
    const map = new RecentMap<number>(3);
    for (let index = 0; index < 1000; index += 1) {
      map.set(`key ${index}`, index);
      map.set(`key ${index}`, index);
      expect(map.size).toBeLessThanOrEqual(3);
    }
    expect(["key 996", "key 997", "key 998", "key 999"].map((key) => map.get(key))).toEqual([undefined, 997, 998, 999]); // prettier-ignore
  });
});
