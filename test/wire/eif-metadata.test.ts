import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { KitError } from "../../core/errors.ts";
import { decodeEifMetadata, type EifMetadata, encodeEifMetadata } from "../../wire/eif/metadata.ts";
import { readGolden } from "../independent-eif/golden-image.ts";

function codeOf(act: () => unknown): string | undefined {
  try {
    act();
    return undefined;
  } catch (error) {
    expect(error).toBeInstanceOf(KitError);
    return error instanceof KitError ? error.code : "not coded";
  }
}

const WHOLE = {
  ImageName: "a",
  ImageVersion: "1",
  BuildMetadata: {
    BuildTime: "",
    BuildTool: "",
    BuildToolVersion: "",
    OperatingSystem: "",
    KernelVersion: "",
  },
  DockerInfo: null,
  CustomMetadata: null,
};

const text = fc.string({ unit: "grapheme", maxLength: 200 }).filter((value) => !value.includes("\0"));
const metadata = fc.record({
  imageName: text,
  imageVersion: text,
  buildMetadata: fc.record({
    buildTime: text,
    buildTool: text,
    buildToolVersion: text,
    operatingSystem: text,
    kernelVersion: text,
  }),
  dockerInfo: fc.jsonValue(),
  customMetadata: fc.oneof(fc.constant(null), fc.dictionary(fc.string({ unit: "grapheme" }), fc.jsonValue())),
});

describe("the metadata of an image", () => {
  test("is read as it was written", () => {
    fc.assert(
      fc.property(metadata, (value) => {
        const again = decodeEifMetadata(encodeEifMetadata(value));
        // JSON knows no -0.
        expect(again).toEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
  });

  test("is written bit for bit as by AWS's tool", async () => {
    const { metadata: texts } = await readGolden();
    expect(Object.keys(texts).length).toBeGreaterThan(1);
    for (const each of Object.values(texts))
      expect(encodeEifMetadata(decodeEifMetadata(Buffer.from(each))).toString()).toBe(each);
  });

  test("has the keys of whoever built the image in the order of their UTF-8 bytes", () => {
    const keys = ["", "-", "10", "9", 'A"', "Z", "__proto__", "a", "a\0", "é", "\uffff", "😀"];
    const backwards = `{${keys
      .map((key) => `${JSON.stringify(key)}:[{"b":1,"a":2}]`)
      .reverse()
      .join(",")}}`;
    const sorted = `{${keys.map((key) => `${JSON.stringify(key)}:[{"a":2,"b":1}]`).join(",")}}`;
    const value = decodeEifMetadata(Buffer.from(JSON.stringify(WHOLE)));
    const given: unknown = JSON.parse(backwards);
    const bytes = encodeEifMetadata({ ...value, dockerInfo: given, customMetadata: given });
    expect(bytes.toString()).toBe(
      JSON.stringify(WHOLE).replace(
        '"DockerInfo":null,"CustomMetadata":null',
        () => `"DockerInfo":${sorted},"CustomMetadata":${sorted}`,
      ),
    );
  });

  test("is read whatever the order of its keys, and with keys that nobody knows", () => {
    const { BuildMetadata, ...rest } = WHOLE;
    const build = { ...Object.fromEntries(Object.entries(BuildMetadata).reverse()), More: [1] };
    const turned = {
      More: { a: 1 },
      BuildMetadata: build,
      ...Object.fromEntries(Object.entries(rest).reverse()),
    };
    expect(decode(turned)).toEqual(decode(WHOLE));
    expect(Object.keys(decode(turned))).not.toContain("More");
    expect(decodeEifMetadata(Buffer.from(` ${JSON.stringify(turned, undefined, 2)}\n`))).toEqual(
      decode(WHOLE),
    );
  });

  test("is refused with any key missing, or with a text that is none", () => {
    expect(decode(WHOLE).imageName).toBe("a");
    for (const key of Object.keys(WHOLE))
      expect(
        codeOf(() => decode({ ...WHOLE, [key]: undefined })),
        key,
      ).toBe("E_EIF_METADATA");
    for (const wrong of [undefined, null, 1, true, [], {}]) {
      for (const key of ["ImageName", "ImageVersion", "BuildMetadata"])
        if (key !== "BuildMetadata" || !isObject(wrong))
          expect(
            codeOf(() => decode({ ...WHOLE, [key]: wrong })),
            key,
          ).toBe("E_EIF_METADATA");
      for (const key of Object.keys(WHOLE.BuildMetadata)) {
        const BuildMetadata = { ...WHOLE.BuildMetadata, [key]: wrong };
        expect(
          codeOf(() => decode({ ...WHOLE, BuildMetadata })),
          key,
        ).toBe("E_EIF_METADATA");
      }
    }
    expect(codeOf(() => decode({ ...WHOLE, BuildMetadata: {} }))).toBe("E_EIF_METADATA");
  });

  const whole = JSON.stringify(WHOLE);
  test.each([
    "",
    "null",
    "[]",
    "{",
    "{}",
    "\u0080",
    `\u00ef\u00bb\u00bf${whole}`,
    `${whole}\0`,
    `${whole}{}`,
  ])("%j is refused", (bytes) => {
    expect(codeOf(() => decodeEifMetadata(Buffer.from(bytes, "latin1")))).toBe("E_EIF_METADATA");
  });

  test("that another tool gave a text or a list of its own is read", () => {
    for (const CustomMetadata of ["text", 1, [1, 2], false])
      expect(decode({ ...WHOLE, CustomMetadata }).customMetadata).toEqual(CustomMetadata);
  });

  test("of any bytes is read or refused as such", () => {
    const refusals = new Set([undefined, "E_EIF_METADATA"]);
    fc.assert(fc.property(fc.uint8Array(), (bytes) => refusals.has(codeOf(() => decodeEifMetadata(bytes)))));
    fc.assert(
      fc.property(fc.nat(whole.length - 1), fc.nat(255), (position, byte) => {
        const bytes = Buffer.from(whole);
        bytes.writeUInt8(byte, position);
        return refusals.has(codeOf(() => decodeEifMetadata(bytes)));
      }),
    );
  });
});

describe("metadata that is too much", () => {
  const withDockerInfo = (json: string): Buffer =>
    Buffer.from(JSON.stringify(WHOLE).replace('"DockerInfo":null', () => `"DockerInfo":${json}`));
  const nested = (depth: number): string => "[".repeat(depth) + "]".repeat(depth);
  const read = (json: string) => codeOf(() => decodeEifMetadata(withDockerInfo(json)));

  test("nested a million times is refused, not a crash of whoever prints it", () => {
    expect(read(nested(63))).toBeUndefined();
    expect(read(nested(64))).toBe("E_EIF_METADATA");
    expect(read(nested(1_000_000))).toBe("E_EIF_METADATA");
    expect(read("[".repeat(1_000_000))).toBe("E_EIF_METADATA");
    expect(read('{"a":'.repeat(1_000_000))).toBe("E_EIF_METADATA");
  });

  test("of more than half a million values is refused", () => {
    for (const unit of ["[]", "{}", "1", '{"":0}']) {
      expect(read(`[${Array(1_000_000).fill(unit).join(",")}]`), unit).toBe("E_EIF_METADATA");
    }
    expect(read(`[${Array(100_000).fill("1").join(",")}]`)).toBeUndefined();
  });

  test("may hold brackets and commas in its texts, as many as it likes", () => {
    for (const text of ["[".repeat(1000), '{"['.repeat(1000), '\\"['.repeat(1000), ",".repeat(1_000_000)])
      expect(decodeEifMetadata(withDockerInfo(JSON.stringify({ [text]: text }))).dockerInfo).toEqual({
        [text]: text,
      });
  });
});

describe("metadata that is not written", () => {
  const value = decode(WHOLE);
  const deep = JSON.parse("[".repeat(1000) + "]".repeat(1000)) as unknown;
  const endless: unknown[] = [];
  endless.push(endless);

  test.each<[name: string, changes: Partial<EifMetadata>]>([
    ["a NUL in a text", { imageName: "a\0b" }],
    ["a text that is too long", { imageVersion: "x".repeat(4097) }],
    ["half a surrogate pair", { imageName: "\ud800" }],
    ["half a surrogate pair in a key", { dockerInfo: { "\udc00": 1 } }],
    ["half a surrogate pair in a value", { customMetadata: { a: ["\ud83d"] } }],
    ["custom metadata that is a text", { customMetadata: "text" }],
    ["custom metadata that is a number", { customMetadata: 1 }],
    ["custom metadata that is false", { customMetadata: false }],
    ["custom metadata that is a list", { customMetadata: [] }],
    ["values too deep to be read", { dockerInfo: deep }],
    ["a list within itself", { customMetadata: { endless } }],
  ])("has %s", (_, changes) => {
    expect(codeOf(() => encodeEifMetadata({ ...value, ...changes }))).toBe("E_EIF_METADATA");
  });

  test("is any other: an object, or nothing", () => {
    for (const customMetadata of [null, undefined, {}, { a: undefined, b: "1" }])
      expect(codeOf(() => encodeEifMetadata({ ...value, customMetadata }))).toBeUndefined();
  });
});

function decode(value: unknown): EifMetadata {
  return decodeEifMetadata(Buffer.from(JSON.stringify(value)));
}

function isObject(value: unknown): boolean {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
