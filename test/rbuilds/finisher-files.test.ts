import { execFile } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { KitError } from "../../core/errors.ts";
import { hashSubjectName } from "../../rbuilds/certificate-name-hash.ts";
import { finishAlternatives } from "../../rbuilds/finishers/alternatives.ts";
import { finishBaseFiles } from "../../rbuilds/finishers/base-files.ts";
import { finishCaBundle } from "../../rbuilds/finishers/ca-bundle.ts";
import { finishDpkgStatus } from "../../rbuilds/finishers/dpkg-status.ts";
import { finishUsrMerge, mergeUsrEntries, mergeUsrPath } from "../../rbuilds/finishers/usr-merge.ts";
import { CERTIFICATES } from "../fixtures/rbuilds/certificates.ts";
import { openFinishBed, scriptedPackage } from "../fixtures/rbuilds/debian-testbed.ts";

const run = promisify(execFile);
let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "finisher-files-"));
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

describe("merged /usr", () => {
  test.each([
    ["/bin/sh", "/usr/bin/sh"],
    ["/lib", "/usr/lib"],
    ["/lib64/x", "/usr/lib64/x"],
    ["/library/x", "/library/x"],
    ["/usr/bin/x", "/usr/bin/x"],
    ["/binary", "/binary"],
  ])("puts %s at %s", (from, to) => {
    expect(mergeUsrPath(from)).toBe(to);
  });

  test.each([
    ["/lib/x/libz.so", "libz.so.1", "/usr/lib/x/libz.so", "libz.so.1"],
    ["/lib/x/a", "../../usr/lib/y", "/usr/lib/x/a", "../y"],
    ["/usr/lib/x/libm.so", "../../../lib/x/libm.so.6", "/usr/lib/x/libm.so", "libm.so.6"],
    ["/lib64/ld.so.2", "/lib/x/ld.so.2", "/usr/lib64/ld.so.2", "/usr/lib/x/ld.so.2"],
    ["/sbin/a", "../bin/b", "/usr/sbin/a", "../bin/b"],
    ["/usr/bin/a", "../../etc/b", "/usr/bin/a", "../../etc/b"],
    ["/bin/a", "../etc/b", "/usr/bin/a", "../../etc/b"],
    ["/etc/a", "/bin/sh", "/etc/a", "/usr/bin/sh"],
  ])("keeps the meaning of the link %s -> %s", (path, target, newPath, newTarget) => {
    const link = { type: "symlink", path, target, mode: 0o777, uid: 0, gid: 0 } as const;
    expect(mergeUsrEntries([link])).toEqual([{ ...link, path: newPath, target: newTarget }]);
  });

  test("moves both names of a hard link", () => {
    const link = { type: "hardlink", path: "/bin/a", target: "/bin/b", mode: 0o755, uid: 0, gid: 0 } as const;
    expect(mergeUsrEntries([link])).toMatchObject([{ path: "/usr/bin/a", target: "/usr/bin/b" }]);
  });

  test("leaves the links of a package out that it makes itself, and links what /usr has", async () => {
    const bin = { type: "symlink", path: "/bin", target: "usr/bin", mode: 0o777, uid: 0, gid: 0 } as const;
    expect(mergeUsrEntries([bin])).toEqual([]);
    const bed = await openFinishBed(directory);
    await bed.add("/usr/lib64/ld.so", "");
    await finishUsrMerge(bed);
    for (const folder of ["bin", "lib", "lib64", "sbin"]) {
      expect(bed.tree.get(`/${folder}`)).toMatchObject({ type: "symlink", target: `usr/${folder}` });
      expect(bed.tree.get(`/usr/${folder}`)).toMatchObject({ type: "directory" });
    }
    expect(bed.tree.get("/lib32")).toBeUndefined();
  });
});

describe("the files of base-files' script", () => {
  test("are there with their modes", async () => {
    const bed = await openFinishBed(directory);
    bed.tree.set({ type: "directory", path: "/var/lock", mode: 0o1777, uid: 0, gid: 0 });
    bed.tree.set({ type: "directory", path: "/tmp", mode: 0o755, uid: 0, gid: 0 });
    await bed.add("/usr/share/base-files/profile", "umask 022\n");
    await finishBaseFiles(bed);
    expect(bed.tree.get("/tmp")).toMatchObject({ type: "directory", mode: 0o1777 });
    expect(bed.tree.get("/root")).toMatchObject({ type: "directory", mode: 0o700 });
    expect(bed.tree.get("/var/run")).toMatchObject({ type: "symlink", target: "/run" });
    expect(bed.tree.get("/var/lock")).toMatchObject({ type: "symlink", target: "/run/lock" });
    expect(bed.tree.get("/etc/localtime")).toMatchObject({ target: "/usr/share/zoneinfo/Etc/UTC" });
    expect(bed.tree.get("/etc/machine-id")).toMatchObject({ type: "file", size: 0 });
    expect(bed.tree.get("/etc/resolv.conf")).toBeUndefined();
    expect(await bed.text("/etc/profile")).toBe("umask 022\n");
    expect(await bed.text("/etc/hosts")).toContain("127.0.0.1\tlocalhost");
    expect(await bed.text("/etc/nsswitch.conf")).toContain("hosts: files dns");
  });

  test("do not replace what packages bring", async () => {
    const bed = await openFinishBed(directory);
    await bed.add("/etc/profile", "mine");
    await bed.add("/etc/nsswitch.conf", "mine");
    await bed.add("/var/lock/kept", "");
    await bed.add("/usr/share/base-files/profile", "default");
    await finishBaseFiles(bed);
    expect(await bed.text("/etc/profile")).toBe("mine");
    expect(await bed.text("/etc/nsswitch.conf")).toBe("mine");
    expect(bed.tree.get("/var/lock/kept")).toBeDefined();
  });
});

describe("alternatives", () => {
  const install = (path: string, priority: number): string =>
    `update-alternatives --install /usr/bin/awk awk ${path} ${priority} --slave /usr/bin/nawk nawk ${path}`;

  test("link the highest priority that is in the image, and its slaves", async () => {
    const packages = [
      scriptedPackage("a", install("/usr/bin/mawk", 5)),
      scriptedPackage("b", install("/usr/bin/gawk", 10)),
      scriptedPackage("c", install("/usr/bin/absent", 90)),
    ];
    const bed = await openFinishBed(directory, packages);
    await bed.add("/usr/bin/mawk", "");
    await bed.add("/usr/bin/gawk", "");
    await finishAlternatives(bed);
    expect(bed.tree.get("/etc/alternatives/awk")).toMatchObject({ type: "symlink", target: "/usr/bin/gawk" });
    expect(bed.tree.get("/usr/bin/awk")).toMatchObject({ type: "symlink", target: "/etc/alternatives/awk" });
    expect(bed.tree.get("/usr/bin/nawk")).toMatchObject({
      type: "symlink",
      target: "/etc/alternatives/nawk",
    });
  });

  test("leave a file alone that has the generic name", async () => {
    const bed = await openFinishBed(directory, [scriptedPackage("a", install("/usr/bin/mawk", 5))]);
    await bed.add("/usr/bin/mawk", "");
    await bed.add("/usr/bin/awk", "a program");
    await finishAlternatives(bed);
    expect(await bed.text("/usr/bin/awk")).toBe("a program");
  });
});

describe("dpkg's database", () => {
  test("is read by dpkg itself", async () => {
    const control = {
      paragraph:
        "Package: alpha\nVersion: 1:2.0-1\nArchitecture: all\nMulti-Arch: foreign\nMaintainer: a <a@b.c>\nDescription: x\n",
      scripts: [],
      foreignScripts: [],
      md5sums: `${"0".repeat(32)}  usr/bin/a\n${"0".repeat(32)}  usr/share/man/man1/a.1.gz\n`,
    };
    const entries = [{ type: "directory", path: "/usr", mode: 0o755, uid: 0, gid: 0 }] as const;
    const bed = await openFinishBed(directory, [{ ...scriptedPackage("alpha"), entries, control }]);
    await finishDpkgStatus(bed);
    const admin = join(directory, "admin");
    await run("mkdir", ["-p", join(admin, "info"), join(admin, "updates")]);
    for (const name of ["status", "available", "info/format", "info/alpha.list", "info/alpha.md5sums"]) {
      await writeFile(join(admin, name), await bed.text(`/var/lib/dpkg/${name}`));
    }
    const query = await run("dpkg-query", [
      "--admindir",
      admin,
      "-W",
      "-f",
      "${Package} ${Version} ${Status}",
    ]);
    expect(query.stdout).toBe("alpha 1:2.0-1 install ok installed");
    expect((await run("dpkg", ["--admindir", admin, "--audit"])).stdout).toBe("");
    expect((await run("dpkg-query", ["--admindir", admin, "-L", "alpha"])).stdout).toBe("/usr\n");
    expect(await bed.text("/var/lib/dpkg/info/alpha.md5sums")).not.toContain("/man/");
  });
});

describe("certificates", () => {
  test.each(CERTIFICATES)("have the name that OpenSSL looks for: $subject", ({ pem, hash }) => {
    expect(hashSubjectName(new X509Certificate(pem).raw)).toBe(hash);
  });

  test("are refused with our own error whatever the bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          hashSubjectName(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(KitError);
        }
      }),
    );
  });

  test("make the bundle and the links where ca-certificates is in the image", async () => {
    const bed = await openFinishBed(directory, [scriptedPackage("ca-certificates")]);
    // The last two have the same subject.
    const [first, second] = CERTIFICATES.slice(-2);
    await bed.add("/usr/share/ca-certificates/mozilla/A_(1),x.crt", first?.pem ?? "");
    await bed.add("/usr/share/ca-certificates/mozilla/B.crt", second?.pem.trimEnd() ?? "");
    await finishCaBundle(bed);
    expect(await bed.text("/etc/ssl/certs/ca-certificates.crt")).toBe(`${first?.pem}${second?.pem}`);
    const target = "/usr/share/ca-certificates/mozilla/A_(1),x.crt";
    expect(bed.tree.get("/etc/ssl/certs/A_=1=_x.pem")).toMatchObject({ type: "symlink", target });
    expect(bed.tree.get(`/etc/ssl/certs/${first?.hash}.0`)).toMatchObject({ target: "A_=1=_x.pem" });
    expect(bed.tree.get(`/etc/ssl/certs/${first?.hash}.1`)).toMatchObject({ target: "B.pem" });
    expect(await bed.text("/etc/ca-certificates.conf")).toContain("mozilla/B.crt\n");
  });

  test("make nothing without it", async () => {
    const bed = await openFinishBed(directory, []);
    await finishCaBundle(bed);
    expect(bed.tree.get("/etc/ssl")).toBeUndefined();
  });

  test("that are none are refused by name", async () => {
    const bed = await openFinishBed(directory, [scriptedPackage("ca-certificates")]);
    await bed.add("/usr/share/ca-certificates/x.crt", "nonsense");
    await expect(finishCaBundle(bed)).rejects.toMatchObject({
      code: "E_IMAGE_PACKAGE_CONTENT",
      message: expect.stringContaining("/usr/share/ca-certificates/x.crt"),
    });
  });
});
