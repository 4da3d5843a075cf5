/** What test/attest/nsm/nsm-suite.ts asks of every module is not asked again here: this is about the development one's own bytes. */
import { createHash, createPublicKey, verify, X509Certificate } from "node:crypto";

import { Decoder, Encoder } from "cbor-x";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { NsmClient } from "../../attest/nsm/nsm-client.ts";
import { DocumentVerifier } from "../../attest/verify/document-verifier.ts";
import { createNodeCrypto } from "../../attest/verify/node-crypto.ts";
import type { DevelopmentNsm } from "../../dev/development-nsm.ts";
import { encodeNsmRequest, type NsmRequest } from "../../wire/nsm/nsm-requests.ts";
import { DevelopmentBed, dialUnix, MEASUREMENTS, MODULE_ID, openProviderOf } from "./nsm-bed.ts";

const NEVER = new AbortController().signal;
const RESPONSE_MAX_BYTES = 0x3000;
const ZERO = Buffer.alloc(48);
/** Somebody else's CBOR. */
const foreign = {
  encode: (value: unknown): Buffer => new Encoder({ mapsAsObjects: true, useRecords: false, tagUint8Array: false, variableMapSize: true }).encode(value),
  decode: (bytes: Uint8Array): unknown => new Decoder({ mapsAsObjects: false, useRecords: false }).decode(bytes) as unknown,
}; // prettier-ignore

let bed: DevelopmentBed;
beforeAll(async () => {
  bed = await DevelopmentBed.open();
});
afterAll(async () => await bed[Symbol.asyncDispose]());

async function ask(nsm: DevelopmentNsm, request: NsmRequest | Uint8Array): Promise<Buffer> {
  const bytes = request instanceof Uint8Array ? request : encodeNsmRequest(request);
  return Buffer.from(await nsm.handle(bytes));
}

const refusal = (name: string): Buffer => foreign.encode({ Error: name });
const attestation = (fields: Readonly<Record<string, Uint8Array | null>>): Buffer =>
  foreign.encode({ Attestation: fields });

function inside(response: Uint8Array, name: string): Map<unknown, unknown> {
  const decoded = foreign.decode(response);
  const content: unknown = decoded instanceof Map ? decoded.get(name) : undefined;
  if (!(content instanceof Map)) throw new Error(`no ${name}: ${Buffer.from(response).toString("hex")}`);
  return content;
}

function bytesOf(value: unknown): Buffer {
  if (!(value instanceof Uint8Array)) throw new Error("no bytes");
  return Buffer.from(value);
}

async function attest(nsm: DevelopmentNsm, fields: Readonly<Record<string, Uint8Array | null>> = {}) {
  const document = bytesOf(inside(await ask(nsm, attestation(fields)), "Attestation").get("document"));
  const [protectedHeader, unprotected, payload, signature] = foreign.decode(document) as unknown[];
  const content = foreign.decode(bytesOf(payload)) as Map<string, unknown>;
  return { document, protectedHeader, unprotected, payload: bytesOf(payload), signature, content };
}

describe("what the development NSM says of itself", () => {
  test("are the fields of AWS's, in AWS's order, and nothing else", async () => {
    const description = inside(await ask(bed.createNsm(), { kind: "DescribeNSM" }), "DescribeNSM");
    expect([...description]).toEqual([
      ["version_major", 1],
      ["version_minor", 0],
      ["version_patch", 0],
      ["module_id", MODULE_ID],
      ["max_pcrs", 32],
      ["locked_pcrs", Array.from({ length: 16 }, (_item, index) => index)],
      ["digest", "SHA384"],
    ]);
  });

  test("names the registers that were locked since, in order", async () => {
    const nsm = bed.createNsm();
    for (const index of [31, 17, 20]) await ask(nsm, { kind: "LockPCR", index });
    const description = inside(await ask(nsm, { kind: "DescribeNSM" }), "DescribeNSM");
    expect((description.get("locked_pcrs") as number[]).slice(16)).toEqual([17, 20, 31]);
  });

  test.each([
    ["a register of the enclave", { measurements: new Map([[16, ZERO]]) }],
    ["a register below zero", { measurements: new Map([[-1, ZERO]]) }],
    ["a register and a half", { measurements: new Map([[1.5, ZERO]]) }],
    ["47 bytes", { measurements: new Map([[0, ZERO.subarray(1)]]) }],
    ["49 bytes", { measurements: new Map([[0, Buffer.alloc(49)]]) }],
    ["no name", { moduleId: "" }],
    ["a name of 65 bytes", { moduleId: "é".repeat(32) + "e" }],
  ])("is not made with %s", (_what, options) => {
    expect(() => bed.createNsm(options)).toThrow(RangeError);
  });
});

interface Model {
  readonly data: Buffer[];
  readonly locked: boolean[];
}

const bootModel = (): Model => ({
  data: Array.from({ length: 32 }, (_item, index) => Buffer.from(MEASUREMENTS.get(index) ?? ZERO)),
  locked: Array.from({ length: 32 }, (_item, index) => index < 16),
});

type RegisterRequest = Exclude<NsmRequest, { readonly kind: "Attestation" | "DescribeNSM" | "GetRandom" }>;

/** What the hardware's documentation says must come, as bytes; the model is changed with it. */
function foretell({ data, locked }: Model, request: RegisterRequest): Buffer {
  if (request.kind === "LockPCRs") {
    if (request.range > 32) return refusal("InvalidIndex");
    locked.fill(true, 0, request.range);
    return foreign.encode("LockPCRs");
  }
  const { index } = request;
  const old = data[index];
  if (old === undefined) return refusal("InvalidIndex");
  if (request.kind === "DescribePCR")
    return foreign.encode({ DescribePCR: { lock: locked[index] === true, data: old } });
  if (locked[index] === true) return refusal("ReadOnlyIndex");
  if ("data" in request) {
    const extended = createHash("sha384").update(old).update(request.data).digest();
    data[index] = extended;
    return foreign.encode({ ExtendPCR: { data: extended } });
  }
  locked[index] = true;
  return foreign.encode("LockPCR");
}

/** Mostly registers that there are, mostly those of the enclave. */
const anyIndex = fc.oneof(
  { weight: 8, arbitrary: fc.integer({ min: 14, max: 33 }) },
  { weight: 1, arbitrary: fc.nat(31) },
  { weight: 1, arbitrary: fc.constantFrom(32, 33, 255, 256, 0xffff) },
);
const anyRegisterRequest: fc.Arbitrary<RegisterRequest> = fc.oneof(
  fc.record({ kind: fc.constantFrom("DescribePCR" as const), index: anyIndex }),
  fc.record({ kind: fc.constant("ExtendPCR" as const), index: anyIndex, data: fc.uint8Array({ maxLength: 100 }) }),
  fc.record({ kind: fc.constant("LockPCR" as const), index: anyIndex }),
  fc.record({ kind: fc.constant("LockPCRs" as const), range: fc.oneof(fc.nat(20), fc.constantFrom(32, 33, 0xffff)) }),
); // prettier-ignore

describe("the registers of the development NSM", () => {
  test.each(Array.from({ length: 16 }, (_item, index) => index + 16))("begin as zero and hold SHA-384 of what was and what came: %i", async (index) => {
    const nsm = bed.createNsm();
    let value = ZERO;
    for (const data of [Buffer.from("one"), Buffer.alloc(0), Buffer.alloc(48, 7), Buffer.alloc(3_000, 9)]) {
      value = createHash("sha384").update(value).update(data).digest();
      expect(await ask(nsm, { kind: "ExtendPCR", index, data })).toEqual(foreign.encode({ ExtendPCR: { data: value } }));
    }
    expect(await ask(nsm, { kind: "DescribePCR", index })).toEqual(foreign.encode({ DescribePCR: { lock: false, data: value } }));
    expect(await ask(nsm, { kind: "LockPCR", index })).toEqual(foreign.encode("LockPCR"));
    expect(await ask(nsm, { kind: "ExtendPCR", index, data: ZERO })).toEqual(refusal("ReadOnlyIndex"));
    expect(await ask(nsm, { kind: "LockPCR", index })).toEqual(refusal("ReadOnlyIndex"));
    expect(await ask(nsm, { kind: "DescribePCR", index })).toEqual(foreign.encode({ DescribePCR: { lock: true, data: value } }));
  }); // prettier-ignore

  test("answer any requests as a model of the hardware does, and documents show the model's locked ones", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(anyRegisterRequest, { maxLength: 40 }), async (requests) => {
        const [nsm, model] = [bed.createNsm(), bootModel()];
        for (const request of requests) {
          const expected = foretell(model, request);
          expect(await ask(nsm, request)).toEqual(expected);
        }
        const { content } = await attest(nsm);
        const shown = [...(content.get("pcrs") as Map<number, Uint8Array>)];
        expect(shown.map(([index, data]) => [index, Buffer.from(data)])).toEqual(
          model.data.flatMap((data, index) => (model.locked[index] === true ? [[index, data]] : [])),
        );
      }),
      { numRuns: 40 },
    );
  });

  test("are not those of another module, nor the caller's own array", async () => {
    const measured = Buffer.alloc(48, 1);
    const [one, other] = [bed.createNsm({ measurements: new Map([[0, measured]]) }), bed.createNsm()];
    measured.fill(9);
    await ask(one, { kind: "ExtendPCR", index: 16, data: ZERO });
    await ask(one, { kind: "LockPCRs", range: 32 });
    expect(inside(await ask(one, { kind: "DescribePCR", index: 0 }), "DescribePCR").get("data")).toEqual(Buffer.alloc(48, 1)); // prettier-ignore
    expect(await ask(other, { kind: "DescribePCR", index: 16 })).toEqual(
      foreign.encode({ DescribePCR: { lock: false, data: ZERO } }),
    );
  });

  test("change in the order of the requests, also where nobody waits for an answer", async () => {
    const nsm = bed.createNsm();
    const parts = Array.from({ length: 50 }, (_item, index) => Buffer.of(index));
    const answers = await Promise.all(
      parts.map(async (data) => await ask(nsm, { kind: "ExtendPCR", index: 16, data })),
    );
    let value = ZERO;
    const expected = parts.map((data) => {
      value = createHash("sha384").update(value).update(data).digest();
      return foreign.encode({ ExtendPCR: { data: value } });
    });
    expect(answers).toEqual(expected);
  });

  test("outlive connections, and are the same for two at once", async () => {
    const path = await bed.serve(bed.createNsm());
    let data: Uint8Array;
    {
      await using provider = openProviderOf(path);
      const client = new NsmClient(provider);
      data = await client.extendPcr(16, Buffer.from("one"), NEVER);
      await client.lockPcr(16, NEVER);
    }
    await using again = openProviderOf(path);
    await using beside = openProviderOf(path);
    const [client, other] = [new NsmClient(again), new NsmClient(beside)];
    expect(await client.describePcr(16, NEVER)).toEqual({ lock: true, data });
    const extended = await other.extendPcr(17, Buffer.from("two"), NEVER);
    expect(await client.describePcr(17, NEVER)).toEqual({ lock: false, data: extended });
    // Also one that broke off in the middle of a request.
    const half = await dialUnix(path);
    half.end(Buffer.from("0000000ca1674c6f", "hex"));
    half.destroy();
    expect(await client.describePcr(17, NEVER)).toEqual({ lock: false, data: extended });
  });
});

describe("random bytes of the development NSM", () => {
  test("are always 256, and never the same in 500 answers", async () => {
    const nsm = bed.createNsm();
    const answers = await Promise.all(Array.from({ length: 500 }, async () => await ask(nsm, { kind: "GetRandom" }))); // prettier-ignore
    const random = answers.map((answer) => bytesOf(inside(answer, "GetRandom").get("random")));
    expect(new Set(random.map(({ length }) => length))).toEqual(new Set([256]));
    // No half of one either.
    const halves = random.flatMap((bytes) => [bytes.subarray(0, 128), bytes.subarray(128)]);
    expect(new Set(halves.map((half) => half.toString("hex"))).size).toBe(1_000);
  });
});

describe("requests for a document", () => {
  const sizes = { user_data: [0, 1, 512, 513, 1024], nonce: [0, 1, 512, 513, 1024], public_key: [1, 91, 550, 1024] } as const; // prettier-ignore

  test.each(Object.entries(sizes))("take %s of each size up to the limit, and put it in as it is", async (name, all) => {
    const nsm = bed.createNsm();
    for (const sizeBytes of all) {
      const given = Buffer.alloc(sizeBytes, sizeBytes);
      const { content } = await attest(nsm, { [name]: given });
      for (const field of Object.keys(sizes))
        expect([sizeBytes, field, content.get(field)]).toEqual([sizeBytes, field, field === name ? given : null]);
    }
  }); // prettier-ignore

  test.each([
    ["user_data of 1025 bytes", { user_data: Buffer.alloc(1025) }, "InputTooLarge"],
    ["nonce of 1025 bytes", { nonce: Buffer.alloc(1025) }, "InputTooLarge"],
    ["public_key of 1025 bytes", { public_key: Buffer.alloc(1025) }, "InputTooLarge"],
    ["all of 1025 bytes", { user_data: Buffer.alloc(1025), nonce: Buffer.alloc(1025), public_key: Buffer.alloc(1025) }, "InputTooLarge"],
    ["one of 1025 bytes beside others that are allowed", { user_data: Buffer.alloc(1024), nonce: Buffer.alloc(1025), public_key: null }, "InputTooLarge"],
    ["a field of 4000 bytes", { nonce: Buffer.alloc(4000) }, "InputTooLarge"],
    ["public_key of no bytes", { public_key: Buffer.alloc(0) }, "InvalidArgument"],
  ] as const)("are refused with %s", async (_what, fields, error) => {
    expect(await ask(bed.createNsm(), attestation(fields))).toEqual(refusal(error));
  }); // prettier-ignore

  test("are answered within the device's room with everything at its largest", async () => {
    const nsm = bed.createNsm({ moduleId: "i-".padEnd(64, "e"), form: "indefinite" });
    await ask(nsm, { kind: "LockPCRs", range: 32 });
    const full = Buffer.alloc(1024, 7);
    const response = await ask(nsm, attestation({ user_data: full, nonce: full, public_key: full }));
    expect(response.length).toBeLessThanOrEqual(RESPONSE_MAX_BYTES);
    expect(inside(response, "Attestation").has("document")).toBe(true);
  });

  test("of 4096 bytes are the largest there are", async () => {
    const nsm = bed.createNsm();
    // {"ExtendPCR": {"index": 16, "data": …}}
    const around = encodeNsmRequest({ kind: "ExtendPCR", index: 16, data: Buffer.alloc(1000) }).length - 1000;
    const largest = { kind: "ExtendPCR", index: 16, data: Buffer.alloc(0x1000 - around) } as const;
    expect(encodeNsmRequest(largest)).toHaveLength(0x1000);
    expect(inside(await ask(nsm, largest), "ExtendPCR").has("data")).toBe(true);
    const before = await ask(nsm, { kind: "DescribePCR", index: 16 });
    expect(await ask(nsm, { ...largest, data: Buffer.alloc(0x1001 - around) })).toEqual(
      refusal("InputTooLarge"),
    );
    expect(await ask(nsm, Buffer.alloc(1_000_000))).toEqual(refusal("InputTooLarge"));
    expect(await ask(nsm, { kind: "DescribePCR", index: 16 })).toEqual(before);
  });

  test("are no operation where they are no bytes at all, or a text is where bytes are due", async () => {
    const nsm = bed.createNsm();
    for (const request of [Buffer.alloc(0), foreign.encode({ Attestation: { nonce: "nonce" } }), foreign.encode({ Attestation: null })])
      expect(await ask(nsm, request)).toEqual(refusal("InvalidOperation"));
  }); // prettier-ignore

  test("any bytes are answered with one well-formed response, and change no locked register", async () => {
    const nsm = bed.createNsm();
    const valid = anyRegisterRequest.map((request) => encodeNsmRequest(request));
    const damaged = fc.tuple(valid, fc.nat(), fc.nat(255)).map(([bytes, at, value]) => Buffer.from(bytes).fill(value, at % bytes.length, (at % bytes.length) + 1)); // prettier-ignore
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.uint8Array({ maxLength: 300 }), damaged), async (bytes) => {
        const answer = foreign.decode(await ask(nsm, bytes));
        expect(answer instanceof Map || typeof answer === "string").toBe(true);
      }),
      { numRuns: 300 },
    );
    for (const index of [0, 1, 2, 4])
      expect(inside(await ask(nsm, { kind: "DescribePCR", index }), "DescribePCR").get("data")).toEqual(
        Buffer.from(MEASUREMENTS.get(index) ?? []),
      );
  });
});

describe("documents of the development NSM", () => {
  /** The checks of reference texts written out, with node:crypto alone. */
  function verifySignature({
    protectedHeader,
    payload,
    signature,
    content,
  }: Awaited<ReturnType<typeof attest>>) {
    const certificate = new X509Certificate(bytesOf(content.get("certificate")));
    const data = foreign.encode(["Signature1", bytesOf(protectedHeader), Buffer.alloc(0), payload]);
    const key = createPublicKey(certificate.publicKey.export({ type: "spki", format: "pem" }));
    return verify("sha384", data, { key, dsaEncoding: "ieee-p1363" }, bytesOf(signature));
  }

  test.each([
    ["definite", 0xa9, undefined],
    ["indefinite", 0xbf, 0xff],
  ] as const)("have a map of %s length where that is chosen, and are signed", async (form, first, last) => {
    const nowMs = Date.now();
    const made = await attest(bed.createNsm({ form, nowMs: () => nowMs }), { nonce: Buffer.from("nonce") });
    expect(made.payload[0]).toBe(first);
    if (last !== undefined) expect(made.payload.at(-1)).toBe(last);
    expect(bytesOf(made.protectedHeader).toString("hex")).toBe("a1013822");
    expect([...(made.unprotected as Map<unknown, unknown>)]).toEqual([]);
    expect(verifySignature(made)).toBe(true);
    expect([...made.content.keys()]).toEqual(["module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle", "public_key", "user_data", "nonce"]);
    const anchor = { roots: [bed.authority.rootSha256], atMs: nowMs };
    expect(await new DocumentVerifier(createNodeCrypto()).authenticate(made.document, anchor)).toMatchObject({
      moduleId: MODULE_ID,
      timestampMs: nowMs,
      isDebug: false,
      nonce: new Uint8Array(Buffer.from("nonce")),
    });
  }); // prettier-ignore

  test("of one module differ in nothing but time, fields and signature while its leaf lives", async () => {
    const nsm = bed.createNsm();
    const [one, other] = [await attest(nsm), await attest(nsm, { nonce: Buffer.of(1) })];
    for (const key of ["module_id", "digest", "pcrs", "certificate", "cabundle", "public_key", "user_data"])
      expect([key, other.content.get(key)]).toEqual([key, one.content.get(key)]);
    expect(verifySignature({ ...one, signature: other.signature })).toBe(false);
  });

  test("are dated in whole milliseconds by the module's clock", async () => {
    let nowMs = Date.parse("2026-11-01T00:00:00Z") + 0.75;
    const nsm = bed.createNsm({ nowMs: () => nowMs });
    expect(Number((await attest(nsm)).content.get("timestamp"))).toBe(Math.floor(nowMs));
    nowMs += 10.5;
    expect(Number((await attest(nsm)).content.get("timestamp"))).toBe(Math.floor(nowMs));
  });

  test("without measurements are those of a debug enclave", async () => {
    const nsm = bed.createNsm({ measurements: new Map() });
    const { document } = await attest(nsm);
    const anchor = { roots: [bed.authority.rootSha256], atMs: Date.now() };
    expect(await new DocumentVerifier(createNodeCrypto()).authenticate(document, anchor)).toMatchObject({ isDebug: true }); // prettier-ignore
  });

  test("cannot be had without a clock, and the module goes on when it has one", async () => {
    let nowMs: () => number = Date.now;
    const nsm = bed.createNsm({ nowMs: () => nowMs() });
    nowMs = () => {
      throw new Error("no clock");
    };
    await expect(nsm.handle(attestation({}))).rejects.toThrow("no clock");
    expect(await ask(nsm, { kind: "LockPCR", index: 16 })).toEqual(foreign.encode("LockPCR"));
    nowMs = () => Number.NaN;
    await expect(nsm.handle(attestation({}))).rejects.toThrow();
    nowMs = Date.now;
    expect(verifySignature(await attest(nsm))).toBe(true);
  });
});
