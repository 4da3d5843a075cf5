import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { KitError } from "../../core/errors.ts";
import { decodeInfo, encodeInfo, MAX_INFO_BYTES } from "../../rbuilds/store/image-info.ts";
import { parseReference, parseTag, renderTag } from "../../rbuilds/store/image-reference.ts";
import { layOut, tagOfFile } from "../../rbuilds/store/store-layout.ts";
import { describeBytes } from "./store-bed.ts";

const HEX = "0123456789abcdef".repeat(4);
const info = {
  ...describeBytes(Buffer.from("x")),
  createdAt: "2026-01-02T03:04:05.678Z",
  hasProvenance: false,
};

function codeOf(work: () => unknown): string {
  try {
    work();
    return "accepted";
  } catch (error) {
    if (error instanceof KitError) return error.code;
    throw error;
  }
}

describe("references", () => {
  test.each([
    ["a", { name: "a", tag: "latest" }],
    ["a:B_.-9", { name: "a", tag: "B_.-9" }],
    ["team/sub-team/counter.x_y:1", { name: "team/sub-team/counter.x_y", tag: "1" }],
    [`${"a".repeat(128)}:${"t".repeat(128)}`, { name: "a".repeat(128), tag: "t".repeat(128) }],
    ["sha256x:1", { name: "sha256x", tag: "1" }],
  ])("%s is a name", (text, tag) => {
    expect(parseReference(text)).toEqual({ tag, digestPrefix: undefined });
    expect(parseTag(text)).toEqual(tag);
  });

  test.each([
    [`sha256:${HEX}`, { tag: undefined, digestPrefix: HEX }],
    [HEX, { tag: undefined, digestPrefix: HEX }],
    ["sha256:abcdef", { tag: undefined, digestPrefix: "abcdef" }],
    ["abcdef", { tag: { name: "abcdef", tag: "latest" }, digestPrefix: "abcdef" }],
    ["abcde", { tag: { name: "abcde", tag: "latest" }, digestPrefix: undefined }],
  ])("%s is a digest, or may be one", (text, reference) => {
    expect(parseReference(text)).toEqual(reference);
  });

  test.each([
    "", ":", "a:", ":a", "A", "a b", "a:b:c", "a//b", "/a", "a/", "../a", "a/../b", ".", "..", "-a", "a-", "a..b", "a__.b",
    "a:.x", "a:-x", "a:x/y", "a\n", "a:x\n", "a\0", "ä", "a+b", "sha256", "sha256:", "sha256:abcde", "sha256:latest",
    `sha256:${HEX}0`, `sha256:${HEX.toUpperCase()}`, `${HEX}:latest`, "a".repeat(129), `a:${"t".repeat(129)}`, "a@sha256:1",
  ])("%j is refused", (text) => {
    expect(codeOf(() => parseReference(text))).toBe("E_STORE_REFERENCE");
    expect(codeOf(() => parseTag(text))).toBe("E_STORE_REFERENCE");
  }); // prettier-ignore

  test("no digest is taken as a new name", () => {
    for (const text of [HEX, `sha256:${HEX}`, "sha256:abcdef"])
      expect(codeOf(() => parseTag(text))).toBe("E_STORE_REFERENCE");
  });

  test("any text is a reference or is refused, and a name that is taken means itself", () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.string(), fc.string({ unit: fc.constantFrom(...Array.from("ab/:.-_+09 A\n")) })),
        (text) => {
          if (codeOf(() => parseTag(text)) !== "accepted") return;
          const tag = parseTag(text);
          expect(parseTag(renderTag(tag))).toEqual(tag);
          const { tags, tag: place } = layOut("/store");
          const [folder = "", file = "", ...more] = place(tag)
            .slice(tags.length + 1)
            .split("/");
          expect(more).toEqual([]);
          expect([folder, file]).not.toContain("..");
          expect(tagOfFile(folder, file)).toEqual(tag);
        },
      ),
      { numRuns: 2000 },
    );
  });
});

describe("info.json", () => {
  test("comes back as it was, in the same bytes", () => {
    const bytes = encodeInfo(info);
    expect(decodeInfo(bytes, "f")).toEqual(info);
    expect(encodeInfo(decodeInfo(bytes, "f"))).toEqual(bytes);
  });

  test.each([
    ["digest", "A".repeat(64)], ["digest", undefined], ["sizeBytes", -1], ["sizeBytes", 1.5], ["sizeBytes", 2 ** 50],
    ["pcrs", { PCR32: "0".repeat(96) }], ["pcrs", { PCR0: "0" }], ["pcrs", []], ["name", "a b"], ["name", ""],
    ["mode", "debug"], ["architecture", "x/../y"], ["kernelVersion", 6], ["kernelVersion", "6\u001b[2J"],
    ["signedBy", "a\nb"], ["signedBy", undefined], ["createdAt", "yesterday"], ["createdAt", "2026-01-02"],
    ["createdAt", "2026-13-02T03:04:05.678Z"], ["hasProvenance", 1], ["more", 1], ["__proto__", 1],
  ])("%s of %j is refused, naming the file", (key, value) => {
    const entries = Object.entries(info).filter(([name]) => name !== key);
    const text = JSON.stringify(Object.fromEntries(entries)).replace(/\}$/, value === undefined ? "}" : `,${JSON.stringify(key)}:${JSON.stringify(value)}}`); // prettier-ignore
    expect(() => decodeInfo(Buffer.from(text), "the/file")).toThrow(expect.objectContaining({ code: "E_STORE_DAMAGED", message: expect.stringContaining("the/file") })); // prettier-ignore
  }); // prettier-ignore

  test("any bytes, and any JSON, are an info or are refused", () => {
    const refused = (bytes: Uint8Array): void => {
      expect(["accepted", "E_STORE_DAMAGED"]).toContain(codeOf(() => decodeInfo(bytes, "f")));
    };
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), refused), { numRuns: 500 });
    fc.assert(
      fc.property(fc.json(), (text) => refused(Buffer.from(text))),
      { numRuns: 500 },
    );
    const changed = fc.tuple(fc.constantFrom(...Object.keys(info)), fc.jsonValue());
    fc.assert(fc.property(changed, ([key, value]) => refused(Buffer.from(JSON.stringify({ ...info, [key]: value }))))); // prettier-ignore
    refused(Buffer.alloc(MAX_INFO_BYTES + 1, " "));
  });

  test("what could not be read again is not written", () => {
    expect(() => encodeInfo({ ...info, signedBy: "two\nlines" })).toThrow(TypeError);
  });
});
