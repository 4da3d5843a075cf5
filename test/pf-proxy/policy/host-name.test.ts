import { domainToUnicode } from "node:url";

import fc from "fast-check";
import { describe, expect, test } from "vitest";

import {
  canonicalHostName,
  isCanonicalHostName,
  parseHostPattern,
} from "../../../pf-proxy/policy/host-name.ts";
import { outcomeOf } from "./refusal.ts";

const LABEL_63 = "a".repeat(63);
const NAME_253 = [LABEL_63, LABEL_63, LABEL_63, "a".repeat(61)].join(".");

describe("one name has one text", () => {
  test.each([
    ["example.com", "example.com"],
    ["API.Example.COM", "api.example.com"],
    ["example.com.", "example.com"],
    ["EXAMPLE.com.", "example.com"],
    ["localhost", "localhost"],
    ["_acme-challenge.example.com", "_acme-challenge.example.com"],
    ["my_bucket_.s3.example.com", "my_bucket_.s3.example.com"],
    ["r3---sn-abc.example.com", "r3---sn-abc.example.com"],
    ["127.0.0.1.example.com", "127.0.0.1.example.com"],
    ["0x7f.example", "0x7f.example"],
    ["1e5", "1e5"],
    ["0b1", "0b1"],
    ["0xg", "0xg"],
    ["xn--mnchen-3ya.de", "xn--mnchen-3ya.de"],
    ["XN--MNCHEN-3YA.de", "xn--mnchen-3ya.de"],
    ["münchen.de", "xn--mnchen-3ya.de"],
    ["MÜNCHEN.de.", "xn--mnchen-3ya.de"],
    ["cafe\u0301.fr", "xn--caf-dma.fr"],
    ["faß.de", "xn--fa-hia.de"],
    ["☃.net", "xn--n3h.net"],
    [LABEL_63, LABEL_63],
    [NAME_253, NAME_253],
    [`${NAME_253}.`, NAME_253],
  ])("%j is %s", (text, name) => {
    expect(canonicalHostName(text)).toBe(name);
    expect(isCanonicalHostName(name)).toBe(true);
  });

  test("a look-alike in another script is another name, and shows as one", () => {
    const homograph = canonicalHostName("\u0430pple.com"); // a Cyrillic a
    expect(homograph).toBe("xn--pple-43d.com");
    expect(homograph).not.toBe(canonicalHostName("apple.com"));
  });
});

describe("text that two parsers could read in two ways is no name", () => {
  const REFUSED: readonly (readonly [string, readonly string[]])[] = [
    [
      "a NUL, at which C stops and JavaScript does not",
      ["evil.com\0.allowed.com", "\0", "a\0", "\0a.com", "allowed.com\0"],
    ],
    [
      "control characters and white space",
      [
        " ",
        "a b.com",
        " a.com",
        "a.com ",
        "a.com\n",
        "a\r\nHost: b.com",
        "a\t.com",
        "a.com\u007f",
        "a\u0085.com",
        "a\u00a0.com",
        "a.com\u2028",
      ],
    ],
    [
      "percent escapes",
      ["%", "ev%00il.com", "%65xample.com", "a%2ecom", "example.com%00", "fe80::1%lo", "ü%41.com"],
    ],
    [
      "user information",
      ["user@example.com", "allowed.com@evil.com", "user:pass@example.com", "ü@example.com"],
    ],
    [
      "ports and more of a URL",
      [
        "example.com:443",
        ":443",
        "http://example.com",
        "example.com/",
        "example.com/..",
        "a.com?b",
        "a.com#b",
        "ü.com/b",
        "ü.com:80",
        "a\\b.com",
        "a.com\\@b.com",
      ],
    ],
    ["brackets", ["[::1]", "[example.com]", "[", "]", "[::ffff:127.0.0.1]"]],
    ["IPv6 addresses", ["::1", "fd00::1", "::ffff:169.254.169.254", "1:2:3:4:5:6:7:8"]],
    ["empty labels", ["", ".", "..", ".com", "a..com", "a.com..", "*.", "ü..com"]],
    [
      "labels and names that DNS has no room for",
      [
        `${LABEL_63}a`,
        `a.${LABEL_63}a.b`,
        `a${NAME_253}`,
        `${NAME_253}a`,
        `${NAME_253}..`,
        "a".repeat(100_000),
        "ü".repeat(60),
        "ü".repeat(100_000),
        "a.".repeat(50_000),
      ],
    ],
    [
      "hyphens at the ends of labels",
      ["-", "-a.com", "a-.com", "a.-", "a.com-", "-ü.com", "ü-.com", "xn----dha.com"],
    ],
    [
      "signs that no name has",
      [
        "*",
        "*.com",
        "a.*.com",
        "a*.com",
        "a,b",
        "a;b",
        "a'b",
        '"a"',
        "a+b",
        "a=b",
        "a~b",
        "a|b",
        "<a>",
        "{a}",
        "$a",
        "!a",
        "(a)",
        "`a`",
        "^a",
      ],
    ],
    [
      "IPv4 addresses in decimals",
      ["127.0.0.1", "169.254.169.254", "1.2.3.4.", "256.256.256.256", "1.2.3.4.5"],
    ],
    [
      "IPv4 addresses in fewer parts",
      ["127.1", "127.0.1", "0", "1", "2130706433", "4294967295", "2852039166", "99999999999999999999", "1."],
    ],
    [
      "octal IPv4 addresses",
      ["0177.0.0.1", "0177.1", "017700000001", "00", "0251.0376.0251.0376", "1.2.3.08"],
    ],
    [
      "hexadecimal IPv4 addresses",
      [
        "0x7f.0.0.1",
        "0x7f000001",
        "0X7F000001",
        "0x",
        "0x0",
        "0xA9FEA9FE",
        "0xa9.0xfe.0xa9.0xfe",
        "127.0.0.0x1",
      ],
    ],
    ["names that end in a number", ["example.1", "a.b.0x10", "example.00", "example.com.1"]],
    [
      "digits of other scripts, which IDNA turns into numbers",
      ["１２７.０.０.１", "①②⑦.1", "127.0.0.１", "a.１", "𝟏.𝟐.𝟑.𝟒", "²"],
    ],
    [
      "dots of other scripts",
      ["example。com", "example．com", "example｡com", "127。0。0。1", "example.com。"],
    ],
    [
      "characters that IDNA drops",
      [
        "exam\u00adple.com",
        "exam\u200bple.com",
        "exam\u200cple.com",
        "exam\u200dple.com",
        "\ufeffexample.com",
        "exam\u2060ple.com",
        "ex\u034fample.com",
        "ü\ufe0f.com",
      ],
    ],
    [
      "characters that IDNA turns into others",
      ["ｅxample.com", "ℰxample.com", "example.ⅽom", "ﬁ.com", "\u212a.com", "\u212aü.com", "a‑b.com"],
    ],
    ["characters that IDNA refuses", ["\ud800.com", "a.\udfff", "\uffff.com", "ü\u202e.com", "\u0301.com"]],
    [
      "labels that claim to be IDNA and are not",
      [
        "xn--",
        "xn--a",
        "xn--0.pt",
        "xn--1-",
        "a.xn--zzzzzz9999",
        "xn--a.xn--tda",
        "xn--example-.com",
        "xn--xn--tda-.com",
      ],
    ],
  ];
  const cases = REFUSED.flatMap(([kind, texts]) =>
    texts.map((text) => [kind, text.length > 300 ? `${text.slice(0, 4)}...` : text, text] as const),
  );

  test.each(cases)("%s: %j", (_kind, _shown, text) => {
    expect(outcomeOf(() => canonicalHostName(text))).toEqual({ code: "E_EGRESS_NAME" });
    expect(outcomeOf(() => parseHostPattern(`*.${text}`))).toEqual({ code: "E_EGRESS_NAME" });
    expect(isCanonicalHostName(text)).toBe(false);
  });

  test("the refusal says why, is short, and shows controls and look-alikes as escapes", () => {
    expect(() => canonicalHostName("evil\0.\u202eallowed.com")).toThrow(
      String.raw`"evil\u0000.\u202eallowed.com" is no host name: it has characters that IDNA`,
    );
    expect(() => canonicalHostName("10.0.0.1")).toThrow("take it for an address");
    expect(() => parseHostPattern("api*.example.com")).toThrow("a wildcard is `*.` before a name");
    expect(() => canonicalHostName("a..b")).toThrow("a label is empty");
    expect(messageOf("b".repeat(5_000)).length).toBeLessThan(200);
  });
});

function messageOf(text: string): string {
  try {
    return canonicalHostName(text);
  } catch (error) {
    return error instanceof Error ? error.message : "";
  }
}

describe("patterns", () => {
  test.each([
    ["example.com", { text: "example.com", wildcard: false, name: "example.com" }],
    ["*.Example.COM.", { text: "*.example.com", wildcard: true, name: "example.com" }],
    ["*.com", { text: "*.com", wildcard: true, name: "com" }],
    ["*.münchen.de", { text: "*.xn--mnchen-3ya.de", wildcard: true, name: "xn--mnchen-3ya.de" }],
  ])("%s", (text, pattern) => {
    expect(parseHostPattern(text)).toEqual(pattern);
  });

  test.each([
    "*",
    "*.",
    "**",
    "*.*",
    "*.*.com",
    "a.*",
    "a.*.com",
    "a*.com",
    "*a.com",
    "*example.com",
    "?.com",
    ".com",
    "*..com",
    "*.1",
    "*.10.0.0.1",
    "* .com",
    "*。com",
    "＊.com",
  ])("a wildcard is a whole label at the left and nothing else: %s", (text) => {
    expect(outcomeOf(() => parseHostPattern(text))).toEqual({ code: "E_EGRESS_NAME" });
  });
});

describe("of any text", () => {
  const alphabet = [
    ...Array.from("aA0x1.-_*@:/%[]\\ \0üß。１\u00ad\u200dx"),
    "xn--",
    "xn--tda",
    "com",
    "127.0.0.1",
    "::",
  ];
  const hostile = fc.array(fc.constantFrom(...alphabet), { maxLength: 12 }).map((parts) => parts.join(""));
  const texts = fc.oneof(
    fc.string({ unit: "binary", maxLength: 300 }),
    fc.domain(),
    fc.domain().map((name) => name.toUpperCase()),
    fc.ipV4Extended(),
    hostile,
  );

  test("what is accepted is canonical, stays as it is, and is what a URL parser makes of it", () => {
    let accepted = 0;
    fc.assert(
      fc.property(texts, (text) => {
        const outcome = outcomeOf(() => canonicalHostName(text));
        if ("code" in outcome) return outcome.code === "E_EGRESS_NAME";
        accepted += 1;
        const { value: name } = outcome;
        expect(name).toMatch(/^[a-z0-9_.-]{1,253}$/);
        expect(canonicalHostName(name)).toBe(name);
        expect(isCanonicalHostName(name)).toBe(true);
        expect(new URL(`http://${name}`).hostname).toBe(name);
        // Text in another form goes to the same place, so nobody who parses it himself goes elsewhere.
        expect(new URL(`http://${text}`).hostname.replace(/\.$/, "")).toBe(name);
        expect(canonicalHostName(domainToUnicode(name))).toBe(name);
        return true;
      }),
      { numRuns: 5_000 },
    );
    expect(accepted).toBeGreaterThan(500);
  });

  test("no character beside ASCII stands for a name in ASCII", () => {
    const accepted: string[] = [];
    for (const [first, last] of [
      [0x80, 0xffff],
      [0x1d400, 0x1d7ff],
      [0x1f100, 0x1f1ff],
      [0xe0000, 0xe01ff],
    ] as const)
      // prettier-ignore
      for (let code = first; code <= last; code += 1) {
        const outcome = outcomeOf(() => canonicalHostName(`a${String.fromCodePoint(code)}.com`));
        if ("value" in outcome && !outcome.value.startsWith("xn--")) accepted.push(code.toString(16));
      }
    expect(accepted).toEqual([]);
  });

  test("isCanonicalHostName is true exactly where canonicalising changes nothing", () => {
    fc.assert(
      fc.property(texts, (text) => {
        const outcome = outcomeOf(() => canonicalHostName(text));
        expect(isCanonicalHostName(text)).toBe("value" in outcome && outcome.value === text);
      }),
      { numRuns: 3_000 },
    );
  });

  test("whatever a URL parser takes for an IPv4 or IPv6 address is refused", () => {
    const spelled = fc.oneof(
      fc.ipV4Extended(),
      fc.ipV4(),
      fc.ipV6().map((text) => `[${text}]`),
    );
    fc.assert(
      fc.property(spelled, (text) => {
        expect(new URL(`http://${text}`).hostname).toMatch(/^[0-9.]+$|^\[/);
        expect(outcomeOf(() => canonicalHostName(text))).toEqual({ code: "E_EGRESS_NAME" });
      }),
    );
  });
});
