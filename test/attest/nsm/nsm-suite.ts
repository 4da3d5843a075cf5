/**
 * What every Nitro Security Module does, whatever is behind its provider. Each test has a module to itself, as it is when an
 * enclave has just booted: registers 0 to 15 locked, 16 to 31 zero and open.
 */
import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";

import { NsmClient } from "../../../attest/nsm/nsm-client.ts";
import type { NsmProvider } from "../../../attest/nsm/nsm-provider.ts";
import { decodeAttestationPayload } from "../../../wire/attestation-document.ts";
import { decodeCbor } from "../../../wire/cbor/cbor-decoder.ts";
import { encodeCbor } from "../../../wire/cbor/cbor-encoder.ts";
import type { CborValue } from "../../../wire/cbor/cbor-value.ts";
import { decodeCoseSign1 } from "../../../wire/cose/cose-sign1.ts";
import { encodeNsmRequest, type NsmRequest } from "../../../wire/nsm/nsm-requests.ts";

export interface NsmSuiteSetup {
  readonly name: string;
  /** A module that has just booted; the suite disposes it. */
  readonly open: () => Promise<NsmProvider>;
  /** Registers that are not zero after boot. */
  readonly measurements: ReadonlyMap<number, Uint8Array>;
  /** Named reason: the provider cannot reset registers, so tests that change some are left out. */
  readonly readOnly?: string;
}

const NEVER = new AbortController().signal;
const ZERO = new Uint8Array(48);
const LIMITS = { maxDepth: 8, maxItems: 1000, maxBytes: 20_000 };

const extended = (old: Uint8Array, data: Uint8Array): Uint8Array =>
  new Uint8Array(createHash("sha384").update(old).update(data).digest());
const refusal = (name: string): Buffer => encodeCbor(new Map([["Error", name]]));
const fields = (name: string, content: Readonly<Record<string, CborValue>>): Buffer =>
  encodeCbor(new Map([[name, new Map(Object.entries(content))]]));
const readDocument = (document: Uint8Array): ReturnType<typeof decodeAttestationPayload> =>
  decodeAttestationPayload(decodeCoseSign1(document, LIMITS.maxBytes).payload);

export function nsmSuite({ name, open, measurements, readOnly }: NsmSuiteSetup): void {
  async function withModule(
    work: (client: NsmClient, provider: NsmProvider) => Promise<void>,
  ): Promise<void> {
    await using provider = await open();
    await work(new NsmClient(provider), provider);
  }
  const ask = async (provider: NsmProvider, request: NsmRequest | Uint8Array): Promise<Buffer> => {
    const bytes = request instanceof Uint8Array ? request : encodeNsmRequest(request);
    return Buffer.from(await provider.exchange(bytes, NEVER));
  };
  const changing = test.skipIf(readOnly !== undefined);

  describe(`the registers of ${name}`, () => {
    test("are 32 of SHA-384, of which 0 to 15 are locked", async () => {
      await withModule(async (client) => {
        const { maxPcrs, lockedPcrs, digest, moduleId, version } = await client.describe(NEVER);
        expect([maxPcrs, digest, version]).toEqual([32, "SHA384", [1, 0, 0]]);
        expect(lockedPcrs).toEqual(Array.from({ length: 16 }, (_item, index) => index));
        expect(moduleId).toMatch(/^i-.+-enc[0-9a-f]+$/);
      });
    });

    test("hold what was measured, or zero", async () => {
      await withModule(async (client) => {
        for (let index = 0; index < 32; index += 1) {
          const { lock, data } = await client.describePcr(index, NEVER);
          expect([index, lock, Buffer.from(data).toString("hex")]).toEqual([
            index,
            index < 16,
            Buffer.from(measurements.get(index) ?? ZERO).toString("hex"),
          ]);
        }
      });
    });

    changing("become the digest of what they were and what they are extended with", async () => {
      await withModule(async (client) => {
        const once = await client.extendPcr(16, Uint8Array.of(1), NEVER);
        expect(new Uint8Array(once)).toEqual(extended(ZERO, Uint8Array.of(1)));
        const large = new Uint8Array(3_000).fill(7);
        const twice = await client.extendPcr(16, large, NEVER);
        expect(new Uint8Array(twice)).toEqual(extended(once, large));
        expect(await client.describePcr(16, NEVER)).toEqual({ lock: false, data: twice });
        expect((await client.describePcr(17, NEVER)).data).toEqual(ZERO);
      });
    });

    changing("can no longer be changed once they are locked", async () => {
      await withModule(async (client) => {
        const data = await client.extendPcr(31, Uint8Array.of(3), NEVER);
        await client.lockPcr(31, NEVER);
        expect(await client.describePcr(31, NEVER)).toEqual({ lock: true, data });
        const code = "E_NSM_READ_ONLY_INDEX";
        await expect(client.extendPcr(31, Uint8Array.of(3), NEVER)).rejects.toMatchObject({ code });
        await expect(client.lockPcr(31, NEVER)).rejects.toMatchObject({ code });
        expect((await client.describePcr(31, NEVER)).data).toEqual(data);
        expect((await client.describe(NEVER)).lockedPcrs.slice(-2)).toEqual([15, 31]);
      });
    });

    changing("are locked from 0 on, those that are locked already too", async () => {
      await withModule(async (client) => {
        await client.lockPcrs(0, NEVER);
        expect((await client.describe(NEVER)).lockedPcrs).toHaveLength(16);
        await client.lockPcrs(18, NEVER);
        await client.lockPcrs(3, NEVER);
        expect((await client.describe(NEVER)).lockedPcrs).toHaveLength(18);
        expect((await client.describePcr(18, NEVER)).lock).toBe(false);
        await client.lockPcrs(32, NEVER);
        expect((await client.describe(NEVER)).lockedPcrs).toHaveLength(32);
      });
    });

    test.each([0, 7, 15])("cannot be changed where the boot wrote them: %i", async (index) => {
      await withModule(async (client, provider) => {
        const code = "E_NSM_READ_ONLY_INDEX";
        await expect(client.extendPcr(index, Uint8Array.of(1), NEVER)).rejects.toMatchObject({ code });
        await expect(client.lockPcr(index, NEVER)).rejects.toMatchObject({ code });
        expect(await ask(provider, { kind: "LockPCR", index })).toEqual(refusal("ReadOnlyIndex"));
      });
    });

    test.each([32, 255])("there are no others: %i", async (index) => {
      await withModule(async (_client, provider) => {
        const wrong = refusal("InvalidIndex");
        expect(await ask(provider, { kind: "DescribePCR", index })).toEqual(wrong);
        expect(await ask(provider, { kind: "LockPCR", index })).toEqual(wrong);
        expect(await ask(provider, { kind: "ExtendPCR", index, data: ZERO })).toEqual(wrong);
        expect(await ask(provider, { kind: "LockPCRs", range: index + 1 })).toEqual(wrong);
      });
    });
  });

  describe(`random bytes of ${name}`, () => {
    test("are 256 at a time, never the same", async () => {
      await withModule(async (_client, provider) => {
        const answers = [
          await ask(provider, { kind: "GetRandom" }),
          await ask(provider, { kind: "GetRandom" }),
        ];
        // {"GetRandom": {"random": 256 bytes}}
        for (const answer of answers)
          expect([answer.length, answer.subarray(0, 22).toString("hex")]).toEqual([278, "a16947657452616e646f6da16672616e646f6d590100"]); // prettier-ignore
        expect(answers[0]).not.toEqual(answers[1]);
      });
    });

    test.each([0, 1, 255, 256, 257, 1024])("are gathered to %i", async (sizeBytes) => {
      await withModule(async (client) => {
        expect(await client.random(sizeBytes, NEVER)).toHaveLength(sizeBytes);
      });
    });
  });

  describe(`documents of ${name}`, () => {
    test("hold what was given, to the byte and as null where nothing was", async () => {
      await withModule(async (client) => {
        const given = { publicKey: Uint8Array.of(1), userData: new Uint8Array(), nonce: new Uint8Array(32).fill(3) };
        expect(readDocument(await client.attest(given, NEVER))).toMatchObject(given);
        const none = { publicKey: null, userData: null, nonce: null };
        expect(readDocument(await client.attest({}, NEVER))).toMatchObject(none);
      });
    }); // prettier-ignore

    test.each([0, 1, 512, 513, 1024])("take %i bytes of user data and nonce", async (sizeBytes) => {
      await withModule(async (client) => {
        const given = {
          userData: new Uint8Array(sizeBytes).fill(1),
          nonce: new Uint8Array(sizeBytes).fill(2),
        };
        expect(readDocument(await client.attest(given, NEVER))).toMatchObject(given);
      });
    });

    test("take all fields at their largest, with all registers", async () => {
      await withModule(async (client) => {
        if (readOnly === undefined) await client.lockPcrs(32, NEVER);
        const full = (fill: number): Uint8Array => new Uint8Array(1024).fill(fill);
        const given = { publicKey: full(1), userData: full(2), nonce: full(3) };
        expect(readDocument(await client.attest(given, NEVER))).toMatchObject(given);
      });
    });

    test.each(["user_data", "nonce", "public_key"])("take no 1025 bytes of %s", async (field) => {
      await withModule(async (_client, provider) => {
        const request = fields("Attestation", { [field]: new Uint8Array(1025) });
        expect(await ask(provider, request)).toEqual(refusal("InputTooLarge"));
      });
    });

    test("name the module and are dated", async () => {
      await withModule(async (client) => {
        const { moduleId } = await client.describe(NEVER);
        const document = readDocument(await client.attest({}, NEVER));
        expect(document.moduleId).toBe(moduleId);
        expect(document.timestampMs).toBeGreaterThan(Date.parse("2020-01-01"));
      });
    });

    changing("show registers once they are locked", async () => {
      await withModule(async (client) => {
        const data = await client.extendPcr(16, Uint8Array.of(1), NEVER);
        const before = readDocument(await client.attest({}, NEVER)).pcrs;
        expect([...before.keys()]).toEqual(Array.from({ length: 16 }, (_item, index) => index));
        for (const [index, value] of before)
          expect(Buffer.from(value)).toEqual(Buffer.from(measurements.get(index) ?? ZERO));
        await client.lockPcr(16, NEVER);
        const after = readDocument(await client.attest({}, NEVER)).pcrs;
        expect([after.size, Buffer.from(after.get(16) ?? [])]).toEqual([17, Buffer.from(data)]);
      });
    });

    test("are COSE_Sign1 without a tag, ES384, with AWS's keys in AWS's order", async () => {
      await withModule(async (client) => {
        const document = Buffer.from(await client.attest({}, NEVER));
        expect(document.subarray(0, 8).toString("hex")).toBe("8444a1013822a059");
        const { payload, signature } = decodeCoseSign1(document, LIMITS.maxBytes);
        expect(signature).toHaveLength(96);
        const map = decodeCbor(payload, LIMITS);
        expect(map instanceof Map ? [...map.keys()] : map).toEqual([
          "module_id",
          "digest",
          "timestamp",
          "pcrs",
          "certificate",
          "cabundle",
          "public_key",
          "user_data",
          "nonce",
        ]);
      });
    });
  });

  describe(`whatever else is asked of ${name}`, () => {
    test.each([
      ["noise", Buffer.from("ffffffff", "hex")],
      ["an unknown request", encodeCbor("Reset")],
      ["a request without its fields", encodeCbor("LockPCR")],
      ["no index", fields("LockPCR", {})],
      ["an index that is a text", fields("DescribePCR", { index: "0" })],
      ["fields that are a list", encodeCbor(new Map([["LockPCR", [16]]]))],
      ["two requests in one", encodeCbor(new Map([["LockPCR", new Map([["index", 20]])], ["LockPCRs", new Map([["range", 1]])]]))], // prettier-ignore
      ["half a request", encodeNsmRequest({ kind: "LockPCR", index: 20 }).subarray(0, -1)],
    ])("is no operation: %s", async (_what, request) => {
      await withModule(async (client, provider) => {
        expect(await ask(provider, request)).toEqual(refusal("InvalidOperation"));
        // And nothing of it was done.
        expect((await client.describe(NEVER)).lockedPcrs).toHaveLength(16);
      });
    });

    test("is refused before it is sent where it is too long, and the next request is answered", async () => {
      await withModule(async (client, provider) => {
        await expect(provider.exchange(new Uint8Array(0x1001), NEVER)).rejects.toMatchObject({
          code: "E_NSM_REQUEST_SIZE",
        });
        await expect(client.extendPcr(16, new Uint8Array(0x1000), NEVER)).rejects.toMatchObject({
          code: "E_NSM_REQUEST_SIZE",
        });
        expect((await client.describePcr(16, NEVER)).data).toEqual(ZERO);
      });
    });

    test("many requests at once are each answered with what was asked", async () => {
      await withModule(async (client) => {
        const nonces = Array.from({ length: 24 }, (_item, index) => new Uint8Array(8).fill(index));
        const documents = await Promise.all(
          nonces.map(async (nonce) => await client.attest({ nonce }, NEVER)),
        );
        expect(documents.map((document) => readDocument(document).nonce)).toEqual(nonces);
      });
    });

    test("a request that nobody waits for any more does not disturb the next", async () => {
      await withModule(async (client) => {
        const ended = new AbortController();
        const given = client.attest({ nonce: Uint8Array.of(1) }, ended.signal);
        ended.abort(new Error("no longer"));
        await expect(given).rejects.toThrow("no longer");
        await expect(client.describe(ended.signal)).rejects.toThrow("no longer");
        expect(readDocument(await client.attest({ nonce: Uint8Array.of(2) }, NEVER)).nonce).toEqual(Uint8Array.of(2));
      });
    }); // prettier-ignore
  });
}
