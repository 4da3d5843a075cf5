import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readAccountCommands } from "../../rbuilds/maintainer-script/account-commands.ts";
import { readAlternativeCommands } from "../../rbuilds/maintainer-script/alternative-commands.ts";
import { readPathCommands } from "../../rbuilds/maintainer-script/path-commands.ts";
import { readScriptCommands } from "../../rbuilds/maintainer-script/script-commands.ts";

function commands(script: string): string[] {
  return readScriptCommands(script).map(({ program, args }) =>
    [program, ...args.map((word) => word ?? "?")].join(" "),
  );
}

describe("reading the words of a maintainer script", () => {
  test.each([
    ["joins lines that end in a backslash", "adduser \\\n  --system \\\n\tredis", ["adduser --system redis"]],
    ["takes quotes off", `a 'b c' "d e" f\\ g h'i'"j"`, ["a b c d e f g hij"]],
    ["keeps an empty word in quotes", `a "" ''`, ["a  "]],
    ["ends a command at each operator", "a;b&&c||d|e\nf & g", ["a", "b", "c", "d", "e", "f", "g"]],
    ["looks behind reserved words", "if ! a; then b; else c; fi", ["a", "b", "c", "fi"]],
    ["leaves comments out, but not a # inside a word", "a#b # c\n#d\ne", ["a#b", "e"]],
    ["leaves redirections out", "a >/dev/null 2>&1 b <in >>out 2>/x", ["a b"]],
    ["leaves here-documents out", "cat <<EOF\nadduser x\nEOF\na", ["cat", "a"]],
    ["leaves here-documents with quoted, indented ends out", "cat <<-'X'\n\tb\n\tX\na", ["cat", "a"]],
    ["takes the folder of a program off", "/usr/sbin/adduser x", ["adduser x"]],
    ["fills in variables that are set once", `U=redis\nG="$U"\na $U:\${G}`, ["a redis:redis"]],
    ["leaves a variable's value in quotes whole and splits it without", `V="b c"\na $V "$V"`, ["a b c b c"]],
    ["drops an empty variable without quotes", `Q=\na $Q b "$Q"`, ["a b "]],
    ["takes the one value that is not empty", `Q=\nQ=--quiet\na $Q`, ["a --quiet"]],
    ["does not know a variable with two values", "V=1\nV=2\na $V", ["a ?"]],
    ["does not know a variable that is never set", "a $V", ["a ?"]],
    ["takes the default of a variable that is never set", "a ${V:-b} ${V-c}", ["a b c"]],
    ["does not know positional parameters", 'a "$1" $@ ${2}', ["a ? ? ?"]],
    ["does not know command substitutions", "a $(b $(c) d) `e f` g", ["a ? ? g"]],
    ["does not know patterns, but takes them in quotes", "a *.x '*.x'", ["a ? *.x"]],
    ["does not know what is read", "read V\na $V", ["read V", "a ?"]],
    [
      "does not know a loop's variable with several values",
      "for i in x y; do a $i; done",
      ["for i in x y", "a ?", "done"],
    ],
    ["survives a variable that needs itself", "A=$B\nB=$A\na $A", ["a ?"]],
    ["takes DPKG_ROOT as empty", "a $DPKG_ROOT/x", ["a /x"]],
  ])("%s", (_, script, expected) => {
    expect(commands(script)).toEqual(expected);
  });

  test("does not set a variable that is given to one program only", () => {
    expect(commands("V=1 b\na $V")).toEqual(["b", "a ?"]);
  });

  test("reads any text to its end", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 300 }), (text) => {
        for (const { program } of readScriptCommands(text)) expect(typeof program).toBe("string");
      }),
    );
  });

  test("reads any mixture of shell to its end", () => {
    const pieces = [
      "$",
      "{",
      "}",
      "(",
      ")",
      '"',
      "'",
      "`",
      "\\",
      "\n",
      "<<",
      "E",
      " ",
      "=",
      "A",
      "${A",
      "$(",
      "#",
      ";",
      ">",
    ];
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...pieces), { maxLength: 60 }), (parts) => {
        expect(Array.isArray(readScriptCommands(parts.join("")))).toBe(true);
      }),
    );
  });

  test("is not made to grow by variables that double each other", () => {
    const script = Array.from({ length: 60 }, (_, n) => `V${n + 1}="$V${n}$V${n}"`).join("\n");
    expect(commands(`V0=xxxx\n${script}\na $V60`).at(-1)).toBe("a ?");
  });
});

describe("system accounts of a script", () => {
  const read = (script: string) => readAccountCommands(readScriptCommands(script));

  test("reads adduser as redis-tools has it", () => {
    const script = `USER="redis"\nif [ "$1" = "configure" ]; then\n\tadduser \\\n\t\t--system \\\n\t\t--home /var/lib/redis \\\n\t\t--quiet \\\n\t\t--group \\\n\t\t\${USER} || true\nfi`;
    expect(read(script)).toEqual({
      unknown: [],
      requests: [
        {
          kind: "user",
          name: "redis",
          group: undefined,
          uid: undefined,
          home: "/var/lib/redis",
          shell: "/usr/sbin/nologin",
          comment: "",
          createHome: true,
        },
      ],
    });
  });

  test.each([
    ["adduser --system --ingroup g u", { group: "g", createHome: true }],
    ["adduser --system u", { group: "nogroup" }],
    ["adduser --system --group --home=/x/ --no-create-home u", { home: "/x", createHome: false }],
    ['adduser --system --group --gecos "$(x)" u', { comment: "" }],
    [
      "useradd -r -g g -d /x -s /bin/false -c 'A b' u",
      { group: "g", home: "/x", shell: "/bin/false", comment: "A b" },
    ],
    ["useradd --system --no-user-group u", { group: "nogroup", createHome: false }],
    ["in_sysroot adduser --system --group u", { group: undefined }],
    ["if ! adduser --system --group --uid 777 u; then exit 1; fi", { uid: 777 }],
  ])("reads %s", (script, expected) => {
    expect(read(script)).toMatchObject({ unknown: [], requests: [{ kind: "user", name: "u", ...expected }] });
  });

  test("reads groups and members", () => {
    const script =
      "addgroup --system a\ngroupadd -r -g 77 b\nadduser --quiet u a\nusermod -aG a,b u\ngpasswd -a u b";
    expect(read(script).requests).toEqual([
      { kind: "group", name: "a", gid: undefined },
      { kind: "group", name: "b", gid: 77 },
      { kind: "member", user: "u", group: "a" },
      { kind: "member", user: "u", group: "a" },
      { kind: "member", user: "u", group: "b" },
      { kind: "member", user: "u", group: "b" },
    ]);
  });

  test.each([
    "adduser --system $user",
    "adduser --system $OPTIONS u",
    "adduser --system --new-option u",
    "adduser u",
    "useradd u",
    "adduser --system --group 'a:b'",
    "adduser --system --home '/x:y' u",
    "adduser --system a b c",
  ])("does not claim to understand %s", (script) => {
    expect(read(script)).toMatchObject({
      requests: [],
      unknown: [expect.stringContaining(script.split(" ")[0] ?? "")],
    });
  });

  test.each([
    "echo adduser --system $x",
    "command -v adduser",
    "which adduser",
    "# adduser $x",
    "deluser $x",
  ])("finds no account in %s", (script) => {
    expect(read(script)).toEqual({ requests: [], unknown: [] });
  });
});

describe("owners and modes of a script", () => {
  const read = (script: string) => readPathCommands(readScriptCommands(script));

  test.each([
    [
      "chown a:b /x /y/",
      [
        { path: "/x", user: "a", group: "b" },
        { path: "/y", user: "a", group: "b" },
      ],
    ],
    ["chown -R -- a: /x", [{ path: "/x", user: "a", group: undefined, recursive: true }]],
    ["chown :b /x", [{ path: "/x", user: undefined, group: "b" }]],
    ["chgrp b /x", [{ path: "/x", group: "b" }]],
    ["chmod 02750 /x", [{ path: "/x", mode: "02750", create: false }]],
    ["chmod g+s,o-rwx /x", [{ path: "/x", mode: "g+s,o-rwx" }]],
    ["mkdir -p -m 700 /x//y/../z", [{ path: "/x/z", mode: "700", create: true }]],
    ["install -d -oa -gb -m2750 /x", [{ path: "/x", user: "a", group: "b", mode: "2750", create: true }]],
    [
      "dpkg-statoverride --update --add a b 640 /x",
      [{ path: "/x", user: "a", group: "b", mode: "640", create: false }],
    ],
    ["chown a:b relative", []],
    ["chown $u:b /x", []],
    ["chown a:b /x/*", []],
    ["chmod nonsense /x", []],
    ["install -m 644 /a /b", []],
    ["dpkg-statoverride --list /x", []],
    ["chown --reference=/y /x", []],
  ])("reads %s", (script, expected) => {
    expect(read(script)).toMatchObject(expected);
    expect(read(script)).toHaveLength(expected.length);
  });
});

describe("alternatives of a script", () => {
  const read = (script: string) => readAlternativeCommands(readScriptCommands(script));

  test("reads the link, its priority and its slaves", () => {
    const script =
      "update-alternatives --quiet --install /usr/bin/awk awk /usr/bin/mawk 5 \\\n --slave /usr/bin/nawk nawk /usr/bin/mawk";
    expect(read(script)).toEqual([
      {
        link: "/usr/bin/awk",
        name: "awk",
        path: "/usr/bin/mawk",
        priority: 5,
        slaves: [{ link: "/usr/bin/nawk", name: "nawk", path: "/usr/bin/mawk" }],
      },
    ]);
  });

  test.each([
    "update-alternatives --remove awk /usr/bin/mawk",
    "update-alternatives --install /usr/bin/awk ../awk /usr/bin/mawk 5",
    "update-alternatives --install /usr/bin/awk awk $1 5",
    "update-alternatives --install /usr/bin/awk awk /usr/bin/mawk high",
    "update-alternatives --install /usr/bin/awk awk /usr/bin/mawk 5 --slave /a b",
  ])("leaves %s out", (script) => {
    expect(read(script)).toEqual([]);
  });
});
