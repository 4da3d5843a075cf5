import { describe, expect, test } from "vitest";

import { KitError } from "../../../core/errors.ts";
import { MAX_RANDOM_BYTES, NsmClient } from "../../../attest/nsm/nsm-client.ts";
import type { NsmProvider } from "../../../attest/nsm/nsm-provider.ts";
import { decodeNsmRequest, type NsmRequest } from "../../../wire/nsm/nsm-requests.ts";
import {
  encodeNsmResponse,
  NSM_ERROR_NAMES,
  type NsmAnswer,
  type NsmRefusal,
} from "../../../wire/nsm/nsm-responses.ts";

const NEVER = new AbortController().signal;

/** A device that answers what a test wants. */
function clientOf(answer: (request: NsmRequest) => NsmAnswer | NsmRefusal): {
  client: NsmClient;
  asked: NsmRequest[];
} {
  const asked: NsmRequest[] = [];
  const provider: NsmProvider = {
    name: "nitro",
    rootSha256: null,
    exchange: async (bytes) => {
      const request = decodeNsmRequest(bytes);
      asked.push(request);
      return await Promise.resolve(encodeNsmResponse(answer(request)));
    },
    [Symbol.asyncDispose]: async () => await Promise.resolve(),
  };
  return { client: new NsmClient(provider), asked };
}

async function refusalOf(call: Promise<unknown>): Promise<unknown> {
  try {
    return await call;
  } catch (error) {
    return error;
  }
}

const unasked = (): never => {
  throw new Error("was asked");
};

describe("the client of an NSM", () => {
  test.each(NSM_ERROR_NAMES)("has a code for the error %s", async (error) => {
    const { client } = clientOf(() => ({ kind: "Error", error }));
    const refused = await refusalOf(client.lockPcr(16, NEVER));
    expect(refused).toBeInstanceOf(KitError);
    const code = `E_NSM_${error.replaceAll(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase()}`;
    expect(refused).toMatchObject({ code, message: `NSM: LockPCR: ${error}` });
  });

  test.each([-1, 32, 1.5, Number.NaN])("asks for no register %d", async (index) => {
    const { client } = clientOf(unasked);
    const code = "E_NSM_INVALID_INDEX";
    await expect(client.describePcr(index, NEVER)).rejects.toMatchObject({ code });
    await expect(client.extendPcr(index, Uint8Array.of(1), NEVER)).rejects.toMatchObject({ code });
    await expect(client.lockPcr(index, NEVER)).rejects.toMatchObject({ code });
    if (index !== 32) await expect(client.lockPcrs(index, NEVER)).rejects.toMatchObject({ code });
    await expect(client.lockPcrs(33, NEVER)).rejects.toMatchObject({ code });
  });

  test.each(["userData", "nonce", "publicKey"])("sends no 1025 bytes of %s", async (field) => {
    const { client } = clientOf(unasked);
    await expect(client.attest({ [field]: new Uint8Array(1025) }, NEVER)).rejects.toMatchObject({
      code: "E_NSM_INPUT_TOO_LARGE",
      message: `${field} has 1025 bytes, more than 1024`,
    });
  });

  test("sends no public key of no bytes", async () => {
    const { client } = clientOf(unasked);
    const refused = client.attest({ publicKey: new Uint8Array() }, NEVER);
    await expect(refused).rejects.toMatchObject({ code: "E_NSM_INVALID_ARGUMENT" });
  });

  test("sends null for what is not given", async () => {
    const { client, asked } = clientOf(() => ({ kind: "Attestation", document: Uint8Array.of(1) }));
    expect(await client.attest({ nonce: new Uint8Array() }, NEVER)).toEqual(Uint8Array.of(1));
    expect(asked).toEqual([
      { kind: "Attestation", userData: null, nonce: new Uint8Array(), publicKey: null },
    ]);
  });

  const description = {
    kind: "DescribeNSM",
    version: [1, 0, 0],
    moduleId: "i-1-enc2",
    maxPcrs: 32,
    lockedPcrs: [0],
    digest: "SHA384",
  } as const;

  test.each<readonly [string, NsmAnswer, (client: NsmClient) => Promise<unknown>]>([
    ["the answer to another request", { kind: "LockPCRs" }, async (client) => await client.lockPcr(16, NEVER)],
    ["a short register", { kind: "DescribePCR", lock: true, data: new Uint8Array(47) }, async (client) => await client.describePcr(0, NEVER)],
    ["a long register", { kind: "ExtendPCR", data: new Uint8Array(64) }, async (client) => await client.extendPcr(16, Uint8Array.of(1), NEVER)],
    ["an empty document", { kind: "Attestation", document: new Uint8Array() }, async (client) => await client.attest({}, NEVER)],
    ["no random bytes", { kind: "GetRandom", random: new Uint8Array() }, async (client) => await client.random(1, NEVER)],
    ["a few random bytes", { kind: "GetRandom", random: new Uint8Array(31) }, async (client) => await client.random(1, NEVER)],
    ["another digest", { ...description, digest: "SHA256" }, async (client) => await client.describe(NEVER)],
    ["no registers", { ...description, maxPcrs: 0, lockedPcrs: [] }, async (client) => await client.describe(NEVER)],
    ["a locked register that there is not", { ...description, lockedPcrs: [32] }, async (client) => await client.describe(NEVER)],
  ])("refuses %s", async (_what, answer, ask) => {
    const { client } = clientOf(() => answer);
    await expect(ask(client)).rejects.toMatchObject({ code: "E_NSM_RESPONSE" });
  }); // prettier-ignore

  test("refuses random bytes that it has seen, in one call and in the next", async () => {
    const { client } = clientOf(() => ({ kind: "GetRandom", random: new Uint8Array(256).fill(7) }));
    const code = "E_NSM_RESPONSE";
    await expect(client.random(257, NEVER)).rejects.toMatchObject({ code });
    const { client: stuck } = clientOf(() => ({ kind: "GetRandom", random: new Uint8Array(256).fill(7) }));
    expect(await stuck.random(16, NEVER)).toEqual(new Uint8Array(16).fill(7));
    await expect(stuck.random(16, NEVER)).rejects.toMatchObject({ code });
  });

  test("gathers up to 64 KiB of random bytes, and asks no more often than it has to", async () => {
    let count = 0;
    const { client, asked } = clientOf(() => {
      count += 1;
      const random = new Uint8Array(256);
      new DataView(random.buffer).setUint32(0, count);
      return { kind: "GetRandom", random };
    });
    expect(await client.random(0, NEVER)).toEqual(new Uint8Array());
    expect(asked).toEqual([]);
    const bytes = await client.random(MAX_RANDOM_BYTES, NEVER);
    expect([bytes.length, asked.length]).toEqual([65_536, 256]);
    expect(new DataView(bytes.buffer).getUint32(255 * 256)).toBe(256);
    for (const wrong of [MAX_RANDOM_BYTES + 1, -1, 0.5])
      await expect(client.random(wrong, NEVER)).rejects.toThrow(RangeError);
  });
});
