import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { parseYaml } from "../../../core/yaml-file.ts";
import { Egress } from "../../../host/config/egress-schema.ts";
import {
  type EgressDecision,
  EgressPolicy,
  formatTarget,
  suggestRule,
  toTarget,
} from "../../../pf-proxy/policy/egress-policy.ts";
import type { EgressRule, PortRange } from "../../../wire/egress-policy.ts";
import { decideNaively } from "./naive-matcher.ts";
import { outcomeOf } from "./refusal.ts";

const ALL_PORTS: readonly PortRange[] = [{ from: 1, to: 65_535 }];
const HTTPS: readonly PortRange[] = [{ from: 443, to: 443 }];

function allow(place: string, ports = HTTPS): EgressRule {
  return rule("allow", place, ports);
}

function deny(place: string, ports = ALL_PORTS): EgressRule {
  return rule("deny", place, ports);
}

function rule(action: EgressRule["action"], place: string, ports: readonly PortRange[]): EgressRule {
  return place.includes("/") ? { action, cidr: place, ports } : { action, host: place, ports };
}

/** `allow 0`, `no_rule`, `deny_rule 1`. */
function verdictOf(decision: EgressDecision): string {
  if (decision.verdict === "allow") return `allow ${decision.index}`;
  return decision.index === null ? decision.reason : `${decision.reason} ${decision.index}`;
}

function decide(rules: readonly EgressRule[], host: string, port = 443): string {
  return verdictOf(new EgressPolicy(rules).decide(toTarget(host, port)));
}

describe("nothing written means nothing allowed", () => {
  test.each([undefined, null, []])("egress: %j", (written) => {
    const rules = Egress.parse(written);
    expect(rules).toEqual([]);
    const policy = new EgressPolicy([]);
    expect(policy.exactNames()).toEqual([]);
    fc.assert(
      fc.property(
        fc.oneof(fc.domain(), fc.ipV4(), fc.ipV6()),
        fc.integer({ min: 1, max: 65_535 }),
        (host, port) => {
          const target = toTarget(host, port);
          expect(verdictOf(policy.decide(target))).toBe("no_rule");
          if (target.kind === "name") expect(policy.answersName(target.host)).toBe(false);
        },
      ),
    );
  });

  test("rules that only deny allow nothing", () => {
    expect(decide([deny("example.com")], "example.org")).toBe("no_rule");
    expect(decide([deny("10.0.0.0/8")], "11.0.0.1")).toBe("no_rule");
  });
});

describe("names", () => {
  test("an exact rule is about that name and port", () => {
    const rules = [allow("example.com")];
    expect(decide(rules, "example.com")).toBe("allow 0");
    expect(decide(rules, "EXAMPLE.com.")).toBe("allow 0");
    for (const host of [
      "www.example.com",
      "com",
      "example.com.evil.org",
      "notexample.com",
      "example.co",
      "xample.com",
    ])
      expect(decide(rules, host)).toBe("no_rule");
    for (const port of [1, 80, 442, 444, 65_535]) expect(decide(rules, "example.com", port)).toBe("no_rule");
  });

  test("a wildcard is about every name below, at any depth, and not about its apex", () => {
    const rules = [allow("*.example.com")];
    for (const host of [
      "a.example.com",
      "a.b.c.example.com",
      "xn--mnchen-3ya.example.com",
      "example.com.example.com",
    ])
      expect(decide(rules, host)).toBe("allow 0");
    for (const host of [
      "example.com",
      "notexample.com",
      "a.example.com.evil.org",
      "example.com.evil.org",
      "com",
      "a.example.org",
    ])
      expect(decide(rules, host)).toBe("no_rule");
  });

  test("the other spellings of a name are that name, and look-alikes are not", () => {
    const rules = [allow("xn--mnchen-3ya.de"), allow("apple.com")];
    expect(decide(rules, "MÜNCHEN.de")).toBe("allow 0");
    expect(decide(rules, "mu\u0308nchen.de")).toBe("allow 0");
    expect(decide(rules, "munchen.de")).toBe("no_rule");
    expect(decide(rules, "\u0430pple.com")).toBe("no_rule");
  });

  test("ranges of ports have both their ends", () => {
    const rules = [allow("example.com", [{ from: 80, to: 80 }, { from: 8000, to: 8010 }])]; // prettier-ignore
    for (const port of [80, 8000, 8005, 8010]) expect(decide(rules, "example.com", port)).toBe("allow 0");
    for (const port of [79, 81, 7999, 8011]) expect(decide(rules, "example.com", port)).toBe("no_rule");
  });

  test("the first allow rule that matches is the one whose limits hold", () => {
    const rules = [
      allow("*.example.com", [{ from: 80, to: 80 }]),
      allow("*.com"),
      allow("a.example.com"),
      allow("*.example.com"),
    ];
    expect(decide(rules, "a.example.com")).toBe("allow 1");
    const [first, ...others] = rules;
    expect(decide([...others.toReversed(), ...(first === undefined ? [] : [first])], "a.example.com")).toBe(
      "allow 0",
    );
    const decision = new EgressPolicy(rules).decide(toTarget("a.example.com", 443));
    expect(decision).toEqual({ verdict: "allow", rule: rules[1], index: 1 });
  });
});

describe("a deny rule beats every allow rule, wherever it stands", () => {
  test.each([
    ["before", [deny("evil.example.com"), allow("*.example.com")], 0],
    ["after", [allow("*.example.com"), allow("evil.example.com"), deny("evil.example.com")], 2],
    ["as a wildcard over an exact name", [allow("evil.example.com"), deny("*.example.com")], 1],
    ["as a wildcard further up", [allow("*.example.com"), deny("*.com")], 1],
    ["on one port of many", [allow("*.example.com", ALL_PORTS), deny("evil.example.com", HTTPS)], 1],
  ] as const)("%s", (_where, rules, index) => {
    expect(decide(rules, "evil.example.com")).toBe(`deny_rule ${index}`);
  });

  test("the apex of a denied wildcard and other ports stay allowed", () => {
    const rules = [
      allow("example.com", ALL_PORTS),
      deny("*.example.com"),
      deny("example.com", [{ from: 25, to: 25 }]),
    ];
    expect(decide(rules, "example.com")).toBe("allow 0");
    expect(decide(rules, "example.com", 25)).toBe("deny_rule 2");
  });

  test("a hole in an allowed network", () => {
    const rules = [allow("10.0.0.0/8"), deny("10.1.0.0/16")];
    expect(decide(rules, "10.2.0.1")).toBe("allow 0");
    expect(decide(rules, "10.1.0.1")).toBe("deny_rule 1");
  });
});

describe("addresses", () => {
  test("a network is about its addresses, of its own family", () => {
    const rules = [allow("10.20.0.0/16"), allow("fd00:1::/32")];
    expect(decide(rules, "10.20.255.1")).toBe("allow 0");
    expect(decide(rules, "10.21.0.1")).toBe("no_rule");
    expect(decide(rules, "FD00:1:0::9")).toBe("allow 1");
    expect(decide(rules, "::ffff:10.20.0.1")).toBe("allow 0");
    expect(decide(rules, "::10.20.0.1")).toBe("no_rule");
    expect(decide([allow("::/0")], "10.0.0.1")).toBe("no_rule");
    expect(decide([allow("0.0.0.0/0")], "::1")).toBe("no_rule");
  });

  test("rules of names are not about addresses, nor rules of networks about names", () => {
    expect(decide([allow("*.com"), allow("example.com")], "93.184.216.34")).toBe("no_rule");
    expect(decide([allow("0.0.0.0/0"), allow("::/0")], "example.com")).toBe("no_rule");
    expect(decide([deny("0.0.0.0/0"), allow("example.com")], "example.com")).toBe("allow 1");
  });

  test.each([
    "64:ff9b::10.1.2.3",
    "2002:a01:203::",
    "::10.1.2.3",
    "::ffff:0:10.1.2.3",
    "2001:db8::5efe:10.1.2.3",
    "64:ff9b:1:a01:2:300::",
  ])("a denied IPv4 network is also denied inside IPv6: %s", (address) => {
    expect(decide([allow("::/0"), deny("10.0.0.0/8")], address)).toBe("deny_rule 1");
    expect(decide([allow("::/0"), deny("11.0.0.0/8")], address)).toBe("allow 0");
  });
});

describe("targets that are not canonical are denied, so that no deny rule is missed", () => {
  const policy = new EgressPolicy([
    allow("*.example.com", ALL_PORTS),
    allow("0.0.0.0/0"),
    allow("::/0"),
    deny("evil.example.com"),
  ]);

  test.each([
    "Evil.example.com",
    "evil.example.com.",
    "evil\0.example.com",
    " evil.example.com",
    "%65vil.example.com",
    "a@b.example.com",
    "",
  ])("the name %j", (host) => {
    expect(verdictOf(policy.decide({ kind: "name", host, port: 443 }))).toBe("not_a_name");
    expect(policy.answersName(host)).toBe(false);
    expect(verdictOf(policy.decideResolved(host, "1.1.1.1", 443))).toBe("not_a_name");
  });

  test.each([
    "::ffff:10.0.0.1",
    "0:0::1",
    "FD00::1",
    "010.0.0.1",
    "10.1",
    "0x7f000001",
    "fe80::1%lo",
    "[::1]",
    "example.com",
    "",
  ])("the address %j", (host) => {
    expect(verdictOf(policy.decide({ kind: "address", host, port: 443 }))).toBe("not_a_name");
    expect(verdictOf(policy.decideResolved("a.example.com", host, 443))).toBe("forbidden_address");
  });

  test("an address as a name, and a name as an address", () => {
    expect(verdictOf(policy.decide({ kind: "name", host: "10.0.0.1", port: 443 }))).toBe("not_a_name");
    expect(verdictOf(policy.decide({ kind: "address", host: "a.example.com", port: 443 }))).toBe(
      "not_a_name",
    );
  });

  test.each([0, -1, 65_536, Number.NaN])("the port %d", (port) => {
    expect(verdictOf(policy.decide({ kind: "name", host: "a.example.com", port }))).toBe("no_rule");
  });
});

describe("text of a user or of a proxy's client", () => {
  test.each([
    ["Example.com.", { kind: "name", host: "example.com", port: 443 }],
    ["10.0.0.1", { kind: "address", host: "10.0.0.1", port: 443 }],
    ["::FFFF:127.0.0.1", { kind: "address", host: "127.0.0.1", port: 443 }],
    ["FD00:EC2:0::254", { kind: "address", host: "fd00:ec2::254", port: 443 }],
  ])("%s", (text, target) => {
    expect(toTarget(text, 443)).toEqual(target);
  });

  test.each([
    "127.1",
    "0x7f.1",
    "0177.0.0.1",
    "2130706433",
    "[::1]",
    "::1%lo",
    "fe80::1%25lo",
    "example.com:443",
    "10.0.0.1:443",
    "evil.com\0.example.com",
    "a@b.com",
    "",
  ])("%j is neither a name nor an address", (text) => {
    expect(outcomeOf(() => toTarget(text, 443))).toEqual({ code: "E_EGRESS_NAME" });
  });

  test("it is written back as host and port", () => {
    expect(formatTarget(toTarget("Example.COM", 443))).toBe("example.com:443");
    expect(formatTarget(toTarget("10.0.0.1", 22))).toBe("10.0.0.1:22");
    expect(formatTarget(toTarget("fd00::1", 443))).toBe("[fd00::1]:443");
  });
});

describe("the rule that would allow a target", () => {
  test.each([
    ["example.com", 443, "{ host: example.com, port: 443 }"],
    ["10.0.0.1", 5432, "{ cidr: 10.0.0.1, port: 5432 }"],
    ["fd00::1", 443, '{ cidr: "fd00::1", port: 443 }'],
    ["null", 80, '{ host: "null", port: 80 }'],
    ["1e5", 80, '{ host: "1e5", port: 80 }'],
  ])("%s", (host, port, text) => {
    expect(suggestRule(toTarget(host, port))).toBe(text);
  });

  test("is YAML that allows exactly it", () => {
    const odd = fc.constantFrom(
      "true",
      "no",
      "off",
      "y",
      "0o7",
      "1e5",
      "1_0x",
      "0x_1",
      "e1",
      "_",
      "a-b",
      "infinity",
      "nan",
      "1:1".slice(0, 1) + "a",
    );
    const hosts = fc.oneof(fc.domain(), odd, fc.ipV4(), fc.ipV6());
    fc.assert(
      fc.property(hosts, fc.integer({ min: 1, max: 65_535 }), (host, port) => {
        const target = toTarget(host, port);
        const yaml = Egress.parse(parseYaml(`- ${suggestRule(target)}\n`, "suggestion").value);
        const place = target.kind === "name" ? { host: yaml[0]?.host ?? "" } : { cidr: yaml[0]?.cidr ?? "" };
        const policy = new EgressPolicy([{ action: "allow", ...place, ports: yaml[0]?.port ?? [] }]);
        expect(verdictOf(policy.decide(target))).toBe("allow 0");
        expect(verdictOf(policy.decide({ ...target, port: (port % 65_535) + 1 }))).toBe("no_rule");
      }),
    );
  });
});

describe("names that the resolver answers", () => {
  const SMTP: readonly PortRange[] = [{ from: 25, to: 25 }];
  test.each([
    ["allowed on a port", [allow("example.com")], true],
    ["allowed by a wildcard", [allow("*.com")], true],
    ["only the apex of a wildcard", [allow("*.example.com")], false],
    ["allowed as an address only", [allow("0.0.0.0/0")], false],
    ["denied on every port", [allow("example.com"), deny("example.com")], false],
    ["denied on the port that is allowed", [allow("example.com"), deny("*.com", HTTPS)], false],
    ["denied on another port", [allow("example.com"), deny("example.com", SMTP)], true],
    [
      "denied on all but the last port",
      [allow("example.com", ALL_PORTS), deny("example.com", [{ from: 1, to: 65_534 }])],
      true,
    ],
    [
      "denied on all but the first port",
      [allow("example.com", ALL_PORTS), deny("example.com", [{ from: 2, to: 65_535 }])],
      true,
    ],
    [
      "denied by two that touch",
      [
        allow("example.com", [{ from: 1, to: 9 }]),
        deny("example.com", [{ from: 5, to: 9 }]),
        deny("*.com", [{ from: 1, to: 4 }]),
      ],
      false,
    ],
    ["only denied", [deny("example.com")], false],
  ] as const)("%s", (_what, rules, answers) => {
    expect(new EgressPolicy(rules).answersName("example.com")).toBe(answers);
  });

  test("exact names of allow rules come in order, once each", () => {
    const rules = [
      allow("b.com"),
      allow("*.c.com"),
      deny("d.com"),
      allow("a.com"),
      allow("10.0.0.0/8"),
      allow("b.com", ALL_PORTS),
    ];
    expect(new EgressPolicy(rules).exactNames()).toEqual(["b.com", "a.com"]);
  });
});

describe("what a name resolves to", () => {
  function resolved(rules: readonly EgressRule[], address: string, port = 443): string {
    return verdictOf(new EgressPolicy(rules).decideResolved("example.com", address, port));
  }

  test("a public address needs no rule of its own", () => {
    expect(resolved([allow("example.com")], "93.184.216.34")).toBe("allow 0");
    expect(resolved([allow("example.com")], "2606:2800:220:1::1")).toBe("allow 0");
  });

  test("the name must be allowed first, whatever the addresses are", () => {
    expect(resolved([allow("0.0.0.0/0")], "93.184.216.34")).toBe("no_rule");
    expect(resolved([allow("example.com"), deny("*.com")], "93.184.216.34")).toBe("deny_rule 1");
    expect(resolved([allow("example.com"), allow("0.0.0.0/0", ALL_PORTS)], "93.184.216.34", 80)).toBe(
      "no_rule",
    );
  });

  test("a deny rule of addresses holds, inside IPv6 too", () => {
    const rules = [allow("example.com"), deny("93.184.0.0/16"), allow("93.184.216.34/32")];
    expect(resolved(rules, "93.184.216.34")).toBe("deny_rule 1");
    expect(resolved(rules, "64:ff9b::5db8:d822")).toBe("deny_rule 1");
    expect(
      resolved([allow("example.com"), deny("93.184.0.0/16", [{ from: 80, to: 80 }])], "93.184.216.34"),
    ).toBe("allow 0");
  });

  const PRIVATE = [
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "100.127.0.1",
    "fd00::1",
    "fc00::1",
    "fdff::1",
  ];
  test.each(PRIVATE)("the private address %s needs an allow rule of addresses for that port", (address) => {
    const network = address.includes(":") ? "fc00::/7" : "0.0.0.0/0";
    expect(resolved([allow("example.com")], address)).toBe("forbidden_address");
    expect(resolved([allow("example.com"), allow(network)], address)).toBe("allow 0");
    expect(resolved([allow(network), allow("example.com")], address)).toBe("allow 1");
    expect(resolved([allow("example.com"), allow(network, [{ from: 80, to: 80 }])], address)).toBe(
      "forbidden_address",
    );
  });

  test.each([
    "172.15.255.255",
    "172.32.0.1",
    "11.0.0.1",
    "192.169.0.1",
    "100.128.0.1",
    "fe00::1",
    "2001:db8::1",
  ])("%s is public", (address) => {
    expect(resolved([allow("example.com")], address)).toBe("allow 0");
  });

  test.each(["64:ff9b::10.0.0.1", "2002:c0a8:101::1", "2001:db8::5efe:192.168.1.1"])(
    "a private address inside IPv6 is private: %s",
    (text) => {
      const { host: address } = toTarget(text, 443);
      expect(resolved([allow("example.com")], address)).toBe("forbidden_address");
      expect(resolved([allow("example.com"), allow("10.0.0.0/8")], address)).toBe("forbidden_address");
      expect(resolved([allow("example.com"), allow(`${address}/128`)], address)).toBe("allow 0");
    },
  );
});

describe("rules that are not canonical are refused when the policy is made", () => {
  test.each([
    [{ action: "allow", host: "Example.com", ports: HTTPS }, "E_EGRESS_RULE"],
    [{ action: "allow", host: "example.com.", ports: HTTPS }, "E_EGRESS_RULE"],
    [{ action: "allow", host: "münchen.de", ports: HTTPS }, "E_EGRESS_RULE"],
    [{ action: "allow", host: "*", ports: HTTPS }, "E_EGRESS_NAME"],
    [{ action: "allow", host: "a.*.com", ports: HTTPS }, "E_EGRESS_NAME"],
    [{ action: "allow", host: "10.0.0.1", ports: HTTPS }, "E_EGRESS_NAME"],
    [{ action: "allow", host: "", ports: HTTPS }, "E_EGRESS_NAME"],
    [{ action: "allow", cidr: "10.0.0.1", ports: HTTPS }, "E_EGRESS_RULE"],
    [{ action: "allow", cidr: "10.0.0.1/8", ports: HTTPS }, "E_EGRESS_RULE"],
    [{ action: "allow", cidr: "FD00::/8", ports: HTTPS }, "E_EGRESS_RULE"],
    [{ action: "allow", cidr: "example.com", ports: HTTPS }, "E_EGRESS_RULE"],
    [{ action: "allow", ports: HTTPS }, "E_EGRESS_RULE"],
    [{ action: "allow", host: "example.com", cidr: "10.0.0.0/8", ports: HTTPS }, "E_EGRESS_RULE"],
    [{ action: "allow", host: "example.com", ports: [] }, "E_EGRESS_RULE"],
    [{ action: "allow", host: "example.com", ports: [{ from: 2, to: 1 }] }, "E_EGRESS_RULE"],
    [{ action: "deny", host: "example.com", ports: [{ from: 9, to: 9 }, { from: 1, to: 1 }] }, "E_EGRESS_RULE"],
  ] as const satisfies readonly (readonly [EgressRule, string])[])("%j", (wrong, code) => {
    expect(outcomeOf(() => new EgressPolicy([wrong]))).toEqual({ code });
  }); // prettier-ignore

  test("a list that is changed afterwards changes no policy", () => {
    const rules = [allow("example.com")];
    const policy = new EgressPolicy(rules);
    rules.push(allow("example.org"));
    expect(policy.rules).toHaveLength(1);
    expect(verdictOf(policy.decide(toTarget("example.org", 443)))).toBe("no_rule");
  });
});

describe("of any rules and target", () => {
  /** Few of each, so that rules and targets meet. */
  const labels = fc.constantFrom("a", "b", "c");
  const names = fc.array(labels, { minLength: 1, maxLength: 4 }).map((parts) => parts.join("."));
  const addresses = fc
    .tuple(fc.constantFrom(10, 11), fc.nat(1), fc.nat(1), fc.nat(3))
    .map((parts) => parts.join("."));
  const networks = fc.tuple(addresses, fc.integer({ min: 0, max: 32 })).map(([address, bits]) => {
    const value = address.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
    const masked = bits === 0 ? 0 : (value & (-1 << (32 - bits))) >>> 0;
    return `${[24, 16, 8, 0].map((shift) => (masked >>> shift) & 0xff).join(".")}/${bits}`;
  });
  const ports = fc.uniqueArray(fc.integer({ min: 1, max: 8 }), { minLength: 1, maxLength: 4 }).map((list) => {
    const sorted = [...list].sort((a, b) => a - b);
    return sorted.map((from, at): PortRange => ({
      from,
      to: at === sorted.length - 1 ? Math.max(from, 6) : from,
    }));
  });
  const places = fc.oneof(
    names,
    names.map((name) => `*.${name}`),
    networks,
  );
  const actions = fc.constantFrom("allow", "allow", "deny" as const);
  const anyRule = fc.tuple(actions, places, ports).map(([action, place, list]) => rule(action, place, list));
  const rules = fc.array(anyRule, { maxLength: 10 });
  const targets = fc
    .tuple(fc.oneof(names, addresses), fc.integer({ min: 1, max: 9 }))
    .map(([host, port]) => toTarget(host, port));

  test("the decision is that of the plain reading of the rules", () => {
    fc.assert(
      fc.property(rules, targets, (list, target) => {
        expect(new EgressPolicy(list).decide(target)).toEqual(decideNaively(list, target));
      }),
      { numRuns: 10_000 },
    );
  });

  test("a name is answered exactly where some port is allowed", () => {
    fc.assert(
      fc.property(rules, names, (list, name) => {
        const policy = new EgressPolicy(list);
        const some = Array.from({ length: 12 }, (_item, port) =>
          decideNaively(list, { kind: "name", host: name, port }),
        );
        expect(policy.answersName(name)).toBe(some.some(({ verdict }) => verdict === "allow"));
      }),
      { numRuns: 3_000 },
    );
  });

  test("a deny rule more never allows more, wherever it is put", () => {
    fc.assert(
      fc.property(rules, anyRule, fc.nat(10), targets, (list, extra, at, target) => {
        const more = list.toSpliced(at, 0, { ...extra, action: "deny" });
        if (new EgressPolicy(more).decide(target).verdict === "allow")
          expect(new EgressPolicy(list).decide(target).verdict).toBe("allow");
      }),
      { numRuns: 3_000 },
    );
  });

  test("an allow rule more never denies more, wherever it is put", () => {
    fc.assert(
      fc.property(rules, anyRule, fc.nat(10), targets, (list, extra, at, target) => {
        const more = list.toSpliced(at, 0, { ...extra, action: "allow" });
        if (new EgressPolicy(list).decide(target).verdict === "allow")
          expect(new EgressPolicy(more).decide(target).verdict).toBe("allow");
      }),
      { numRuns: 3_000 },
    );
  });

  test("the order of rules decides which one allows, and never whether", () => {
    fc.assert(
      fc.property(rules, targets, (list, target) => {
        const turned = new EgressPolicy(list.toReversed()).decide(target);
        expect(turned.verdict).toBe(new EgressPolicy(list).decide(target).verdict);
      }),
      { numRuns: 3_000 },
    );
  });

  test("resolving only narrows: what is allowed with an address is allowed as a name", () => {
    fc.assert(
      fc.property(
        rules,
        names,
        fc.oneof(addresses, fc.ipV4(), fc.ipV6()),
        fc.integer({ min: 1, max: 9 }),
        (list, name, text, port) => {
          const policy = new EgressPolicy(list);
          const byName = policy.decide({ kind: "name", host: name, port });
          const { host: address } = toTarget(text, port);
          const byBoth = policy.decideResolved(name, address, port);
          if (byName.verdict === "deny" || byBoth.verdict === "allow") expect(byBoth).toEqual(byName);
        },
      ),
      { numRuns: 3_000 },
    );
  });
});
