import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { KitError } from "../../core/errors.ts";
import { formatGroup, formatPasswd, parseGroup, parsePasswd } from "../../rbuilds/account-database.ts";
import { parseLockedPackages, parsePrintedUri } from "../../rbuilds/locked-package.ts";
import { changeMode, isModeChange } from "../../rbuilds/mode-change.ts";
import { nearestNames } from "../../core/nearest-name.ts";
import { isSlimPath } from "../../rbuilds/slim-paths.ts";
import { readSysusers } from "../../rbuilds/sysusers.ts";
import { decodePackageControl, encodePackageControl } from "../../rbuilds/unpacked-package.ts";

const ENTRY = {
  name: "redis-server",
  version: "5:7.0.15-1~deb12u10",
  architecture: "amd64",
  sha256: "a".repeat(64),
  sizeBytes: 73908,
  filename: "redis-server_5%3a7.0.15-1~deb12u10_amd64.deb",
};

describe("locked packages", () => {
  test("reads what apt prints, with an epoch in the version", () => {
    const line = `'http://mirror.example.com/pool/r/redis-server_7.deb' ${ENTRY.filename} 73908 SHA256:${"a".repeat(64)}`;
    expect(parsePrintedUri(line)).toEqual(ENTRY);
  });

  test.each([
    "",
    "Reading package lists...",
    "'http://x/y.deb' y.deb 1 MD5Sum:00",
    `'x' a_1_b.deb 1 SHA256:${"a".repeat(64)}x`,
  ])("takes %j as no package", (line) => {
    expect(parsePrintedUri(line)).toBeUndefined();
  });

  test("sorts by name and gives back what it was given", () => {
    const other = { ...ENTRY, name: "alpha" };
    expect(parseLockedPackages([ENTRY, other])).toEqual([other, ENTRY]);
  });

  test.each([
    ["a name with a slash", { ...ENTRY, name: "../x" }],
    ["a version with a blank", { ...ENTRY, version: "1 2" }],
    ["an unknown architecture", { ...ENTRY, architecture: "mips" }],
    ["a short digest", { ...ENTRY, sha256: "ab" }],
    ["a size of zero", { ...ENTRY, sizeBytes: 0 }],
    ["a size as text", { ...ENTRY, sizeBytes: "1" }],
    ["a file name with a folder", { ...ENTRY, filename: "a/b.deb" }],
    ["no object", null],
  ])("refuses %s", (_, entry) => {
    expect(() => parseLockedPackages([entry])).toThrow(expect.objectContaining({ code: "E_LOCK_INVALID" }));
  });

  test("refuses the same package twice", () => {
    expect(() => parseLockedPackages([ENTRY, ENTRY])).toThrow(
      expect.objectContaining({ code: "E_LOCK_INVALID" }),
    );
  });

  test("refuses any other JSON with its own error", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        try {
          parseLockedPackages(value);
        } catch (error) {
          expect(error).toBeInstanceOf(KitError);
        }
      }),
    );
  });
});

describe("file modes", () => {
  test.each([
    [0o755, "0640", false, 0o640],
    [0o2755, "750", true, 0o2750],
    [0o2755, "00750", true, 0o750],
    [0o4755, "0755", false, 0o755],
    [0o755, "o-rwx", true, 0o750],
    [0o755, "g+s", true, 0o2755],
    [0o640, "g+rwx,o=", true, 0o670],
    [0o644, "a+X", false, 0o644],
    [0o744, "a+X", false, 0o755],
    [0o644, "+x", false, 0o755],
    [0o755, "+t", true, 0o1755],
    [0o755, "o+t", true, 0o1755],
    [0o755, "u=rw,g=r,o=r", false, 0o644],
  ])("makes %o with %s", (mode, change, isDirectory, expected) => {
    expect(changeMode(mode, change, isDirectory)).toBe(expected);
  });

  test.each(["", "abc", "9", "u+q", "1777777", "u=rw,", "+".repeat(100)])(
    "does not take %j for a mode",
    (text) => {
      expect(isModeChange(text)).toBe(false);
    },
  );

  test("stays within the bits of a mode", () => {
    const clause = fc.stringMatching(/^[ugoa]{0,3}[+=-][rwxXst]{0,4}$/);
    fc.assert(
      fc.property(
        fc.nat(0o7777),
        fc.array(clause, { minLength: 1, maxLength: 4 }),
        fc.boolean(),
        (mode, list, dir) => {
          const result = changeMode(mode, list.join(","), dir);
          expect(result).toBeGreaterThanOrEqual(0);
          expect(result).toBeLessThanOrEqual(0o7777);
        },
      ),
    );
  });
});

describe("account files", () => {
  test("gives back what it read, with passwords hidden", () => {
    const passwd = "root:x:0:0:root:/root:/bin/sh\nredis:x:101:101::/var/lib/redis:/usr/sbin/nologin\n";
    const group = "root:x:0:\nadm:x:4:redis,syslog\n";
    expect(formatPasswd(parsePasswd(passwd.replaceAll(":x:", ":*:")))).toBe(passwd);
    expect(formatGroup(parseGroup(group))).toBe(group);
  });

  test.each([
    "root",
    "root:x:0:0:root:/root",
    "root:x:-1:0::/:/",
    "root:x:4294967295:0::/:/",
    ":x:0:0::/:/",
    "a:x:0:0:b:c:d:e",
  ])("refuses the passwd line %j", (line) => {
    expect(() => parsePasswd(line)).toThrow(expect.objectContaining({ code: "E_IMAGE_PACKAGE_CONTENT" }));
  });
});

describe("sysusers.d", () => {
  test("reads users, groups and members", () => {
    const text = `# comment\n\ng systemd-journal - -\nu systemd-network - "systemd Network Management"\nu a 70:b "A \\"b\\"" /x /bin/sh\nm a b\nr - 500-900\n`;
    const { requests, unknown } = readSysusers(text);
    expect(unknown).toEqual([]);
    expect(requests).toMatchObject([
      { kind: "group", name: "systemd-journal" },
      { kind: "user", name: "systemd-network", comment: "systemd Network Management", home: "/nonexistent" },
      { kind: "user", name: "a", uid: 70, group: "b", home: "/x", shell: "/bin/sh" },
      { kind: "member", user: "a", group: "b" },
    ]);
  });

  test.each(["x a -", "u a:b -", 'u a - "b:c"', "m a", "u %i -"])(
    "does not claim to understand %j",
    (line) => {
      expect(readSysusers(line)).toEqual({ requests: [], unknown: [line] });
    },
  );
});

describe("near names", () => {
  const names = ["redis-server", "redis-tools", "redis", "nginx", "nginx-light", "coreutils"];

  test.each([
    ["redis-sever", "redis-server"],
    ["ngnix", "nginx"],
    ["nginx-ligth", "nginx-light"],
    ["corutils", "coreutils"],
  ])("puts what was meant by %s first", (wanted, expected) => {
    expect(nearestNames(wanted, names)[0]).toBe(expected);
  });

  test("names nothing for a name like no other", () => {
    expect(nearestNames("zzzzzzzz", names)).toEqual([]);
  });
});

describe("what stays of a package", () => {
  test.each([
    ["/usr/share/doc/redis/copyright", true],
    ["/usr/share/doc/redis", true],
    ["/usr/share/doc/redis/changelog.gz", false],
    ["/usr/share/man/man1/a.1.gz", false],
    ["/usr/share/locale/de/LC_MESSAGES/x.mo", false],
    ["/usr/share/locale/locale.alias", true],
    ["/usr/share/manpages", true],
    ["/usr/bin/redis-server", true],
  ])("%s: %s", (path, stays) => {
    expect(isSlimPath(path)).toBe(stays);
  });
});

describe("the kept control data of a package", () => {
  test("is read back, and anything else is not", () => {
    const control = { paragraph: "Package: a", scripts: ["#!/bin/sh"], foreignScripts: [], md5sums: "" };
    expect(decodePackageControl(encodePackageControl(control))).toEqual(control);
    for (const text of ["", "{}", "[]", "null", '{"paragraph":1}'])
      expect(decodePackageControl(text)).toBeUndefined();
  });
});
