import { execFile } from "node:child_process";
import {
  createHash,
  createPrivateKey,
  generateKeyPairSync,
  type KeyObject,
  X509Certificate,
} from "node:crypto";
import {
  chmod,
  chown,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  truncate,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { inspect, promisify } from "node:util";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { KitError } from "../../core/errors.ts";
import { type Issuer, makeKeys, writeCertificate, writeName } from "../../dev/certificate-writer.ts";
import { ROOT } from "../../dev/certificate-levels.ts";
import { type DevelopmentAuthority, openDevelopmentAuthority } from "../../dev/development-authority.ts";
import { AuthorityOpener } from "./authority-opener.ts";

const run = promisify(execFile);
const KEY_FILE = "root-key.pem";
const CERTIFICATE_FILE = "root.pem";
const OTHER_UID = 65_534;
const DAY_MS = 86_400_000;
const YEAR_MS = 366 * DAY_MS;
const isRoot = process.getuid?.() === 0;
const ROOT_ONLY = "needs root, who alone can give files away";

let base: string;
/** An authority that is there, for tests that only look at it. */
let shared: DevelopmentAuthority;
beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), "authority-"));
  shared = await open(await newDirectory());
});
afterAll(async () => await rm(base, { recursive: true, force: true }));

/** Not there yet. */
async function newDirectory(): Promise<string> {
  return join(await mkdtemp(join(base, "case-")), "authority");
}

async function open(directory: string, nowMs = Date.now): Promise<DevelopmentAuthority> {
  return await openDevelopmentAuthority({ directory, nowMs });
}

/** A folder with an authority in it. */
async function newAuthority(): Promise<{ directory: string; keyPath: string; root: string; text: string }> {
  const directory = await newDirectory();
  const { rootSha256: root } = await open(directory);
  const keyPath = join(directory, KEY_FILE);
  return { directory, keyPath, root, text: await readFile(keyPath, "utf8") };
}

const modeOf = async (path: string): Promise<string> => ((await stat(path)).mode & 0o7777).toString(8);

/** What is other where a file was written again, also with the same text. */
async function marksOf(directory: string): Promise<unknown[]> {
  const files = [KEY_FILE, CERTIFICATE_FILE].map(async (name) => await stat(join(directory, name)));
  return (await Promise.all(files)).map(({ ino, ctimeMs }) => [ino, ctimeMs]);
}

/** Everything below a folder: names, rights, contents. */
async function snapshot(directory: string): Promise<unknown[]> {
  const names = (await readdir(directory)).sort();
  return await Promise.all(
    names.map(async (name) => {
      const path = join(directory, name);
      const status = await stat(path).catch(() => undefined);
      return [name, status?.mode, status?.isFile() === true ? await readFile(path, "latin1") : "no file"];
    }),
  );
}

/** Any piece of the private key's text that could give something away. */
function secretPieces(pem: string): string[] {
  const body = /-----BEGIN PRIVATE KEY-----\n([^-]+)-----END/.exec(pem)?.[1]?.replaceAll("\n", "") ?? "";
  const scalar = createPrivateKey(pem).export({ format: "jwk" }).d ?? "";
  const hex = Buffer.from(scalar, "base64url").toString("hex");
  return [body, scalar, hex].flatMap((text) =>
    Array.from({ length: Math.floor(text.length / 16) }, (_item, index) => text.slice(index * 16, index * 16 + 16)),
  );
} // prettier-ignore

function expectNoSecret(shown: string, pem: string): void {
  // The beginning of a PKCS#8 body is the same for every key.
  for (const piece of secretPieces(pem).filter((text) => !text.startsWith("MIG2AgEAMBAGByqG")))
    expect(shown.includes(piece)).toBe(false);
}

/** That opening is refused, without a word of the key, and that everything is as it was. */
async function expectRefusal(
  directory: string,
  expected: { readonly code: string; readonly message?: unknown },
  secret?: string,
): Promise<void> {
  const before = await snapshot(directory);
  const error: unknown = await open(directory).catch((caught: unknown) => caught);
  expect(error).toBeInstanceOf(KitError);
  expect(error).toMatchObject(expected);
  if (secret !== undefined)
    expectNoSecret(inspect(error, { depth: Infinity, showHidden: true, maxStringLength: null }), secret);
  expect(await snapshot(directory)).toEqual(before);
}

/** As the file of an authority has it. */
function pemOf(key: KeyObject, certificate: Uint8Array): string {
  return `${key.export({ type: "pkcs8", format: "pem" })}${new X509Certificate(certificate).toString()}`;
}

/** A certificate that is like that of a root but for what is told, and its key. */
async function makeCertificate(change: Partial<Parameters<typeof writeCertificate>[0]>): Promise<string> {
  const keys = await makeKeys(true);
  const subject = ROOT.subject();
  const certificate = await writeCertificate({
    subject,
    issuer: { subject, keys },
    notBeforeMs: Date.now() - 60_000,
    notAfterMs: Date.now() + YEAR_MS,
    serialBytes: 16,
    publicKey: keys.publicKey,
    extensions: await ROOT.extensions(keys.publicKey),
    ...change,
  });
  const der = Buffer.from(await crypto.subtle.exportKey("pkcs8", keys.privateKey));
  return pemOf(createPrivateKey({ key: der, format: "der", type: "pkcs8" }), certificate);
}

describe("the development authority", () => {
  test("is a root in files that only their owner can read, in a folder that only its owner can open", async () => {
    const directory = await newDirectory();
    const authority = await open(directory);
    expect(await modeOf(directory)).toBe("700");
    expect((await readdir(directory)).sort()).toEqual([KEY_FILE, CERTIFICATE_FILE]);
    for (const name of [KEY_FILE, CERTIFICATE_FILE]) {
      const status = await stat(join(directory, name));
      expect([name, status.uid, (status.mode & 0o7777).toString(8)]).toEqual([name, process.geteuid?.(), "600"]);
    }
    expect(authority.rootPath).toBe(join(directory, CERTIFICATE_FILE));
  }); // prettier-ignore

  test("makes the folders above it, open to nobody else either", async () => {
    const directory = join(await newDirectory(), "deep", "er");
    await open(directory);
    for (const folder of [directory, dirname(directory), dirname(dirname(directory))])
      expect(await modeOf(folder)).toBe("700");
  });

  test("tells its certificate, the digest of it and where it lies", async () => {
    const { rootCertificate, rootSha256, rootPath, subject } = shared;
    expect(rootSha256).toBe(createHash("sha256").update(rootCertificate).digest("hex"));
    const written = await readFile(rootPath, "utf8");
    expect(Buffer.from(new X509Certificate(written).raw)).toEqual(Buffer.from(rootCertificate));
    expect(written).not.toContain("PRIVATE");
    expect(subject.toString()).toContain("CN=development.nitro-enclaves");
  });

  test("gives its key to be used, not to be taken or shown", async () => {
    await expect(crypto.subtle.exportKey("pkcs8", shared.keys.privateKey)).rejects.toThrow();
    const secret = await readFile(join(dirname(shared.rootPath), KEY_FILE), "utf8");
    const shown = inspect(shared, { depth: Infinity, showHidden: true, maxStringLength: null });
    expectNoSecret(`${shown} ${JSON.stringify(shared)}`, secret);
  });

  test("is the same when it is opened again, and later, and nothing is written then", async () => {
    const { directory, root } = await newAuthority();
    const before = await snapshot(directory);
    const marks = await marksOf(directory);
    for (const years of [0, 1, 29]) {
      const later = await open(directory, () => Date.now() + years * 365 * DAY_MS);
      expect(later.rootSha256).toBe(root);
    }
    expect(await snapshot(directory)).toEqual(before);
    expect(await marksOf(directory)).toEqual(marks);
  });

  test("is another one in another folder", async () => {
    expect((await newAuthority()).root).not.toBe(shared.rootSha256);
  });

  test("is one where it is opened many times at once in one process", async () => {
    const directory = await newDirectory();
    const opened = await Promise.all(Array.from({ length: 8 }, async () => await open(directory)));
    expect(new Set(opened.map(({ rootSha256 }) => rootSha256)).size).toBe(1);
    expect((await readdir(directory)).sort()).toEqual([KEY_FILE, CERTIFICATE_FILE]);
  });

  test("is used through a link to the folder: what counts is whose the folder is", async () => {
    const { directory, root } = await newAuthority();
    const path = join(dirname(directory), "link");
    await symlink(directory, path);
    expect((await open(path)).rootSha256).toBe(root);
  });
});

describe("the development authority of two processes", () => {
  test("is one however close together they open it, and nothing is left over", async () => {
    await using first = await AuthorityOpener.start();
    await using second = await AuthorityOpener.start();
    for (let round = 0; round < 12; round += 1) {
      const directory = await newDirectory();
      const [one, other, mine] = await Promise.all([
        first.open(directory),
        second.open(directory),
        open(directory),
      ]);
      expect(one).toMatchObject({ root: mine.rootSha256 });
      expect(other).toEqual(one);
      expect((await readdir(directory)).sort()).toEqual([KEY_FILE, CERTIFICATE_FILE]);
      expect(new X509Certificate(await readFile(mine.rootPath)).raw.toString("base64")).toBe(
        Buffer.from(mine.rootCertificate).toString("base64"),
      );
    }
  });

  test("is closed to others whatever the process makes its files with", async () => {
    await using opener = await AuthorityOpener.start("umask 0");
    const directory = await newDirectory();
    expect(await opener.open(directory)).toHaveProperty("root");
    expect(await modeOf(directory)).toBe("700");
    for (const name of await readdir(directory)) expect(await modeOf(join(directory, name))).toBe("600");
  });

  test("leaves nothing behind where a file cannot be written to its end", async () => {
    // As on a full disk: the file can be made, and no byte of it written.
    await using opener = await AuthorityOpener.start("trap '' XFSZ; ulimit -f 0");
    const directory = await newDirectory();
    expect(await opener.open(directory)).toMatchObject({
      code: "E_DEV_AUTHORITY_FILE",
      message: expect.stringContaining("EFBIG") as unknown,
    });
    expect(await readdir(directory)).toEqual([]);
    // And keeps the root that is there where it is the certificate that cannot be written.
    const { rootSha256 } = await open(directory);
    await writeFile(join(directory, CERTIFICATE_FILE), "other");
    const before = await snapshot(directory);
    expect(await opener.open(directory)).toMatchObject({ code: "E_DEV_AUTHORITY_FILE" });
    expect(await snapshot(directory)).toEqual(before);
    expect((await open(directory)).rootSha256).toBe(rootSha256);
  });

  test("does not take what one that was killed left for a root", async () => {
    const { text } = await newAuthority();
    const directory = await newDirectory();
    await mkdir(directory, { mode: 0o700 });
    const left = `${KEY_FILE}.0123456789ab.tmp`;
    await writeFile(join(directory, left), text.slice(0, 100), { mode: 0o600 });
    const { rootSha256 } = await open(directory);
    expect((await readdir(directory)).sort()).toEqual([KEY_FILE, left, CERTIFICATE_FILE]);
    expect((await open(directory)).rootSha256).toBe(rootSha256);
  });
});

describe("opening fails halfway", () => {
  test("with a clock that is none: there is no file", async () => {
    const directory = await newDirectory();
    await expect(open(directory, () => Number.NaN)).rejects.toThrow();
    expect(await readdir(directory)).toEqual([]);
    expect((await open(directory)).rootSha256).toMatch(/^[0-9a-f]{64}$/);
  });

  test("with a folder in the certificate's place: the root that was made is whole, and stays", async () => {
    const directory = await newDirectory();
    await mkdir(join(directory, CERTIFICATE_FILE), { recursive: true });
    await chmod(directory, 0o700);
    await expect(open(directory)).rejects.toMatchObject({ code: "E_DEV_AUTHORITY_FILE" });
    expect((await readdir(directory)).sort()).toEqual([KEY_FILE, CERTIFICATE_FILE]);
    await rm(join(directory, CERTIFICATE_FILE), { recursive: true });
    const { raw } = new X509Certificate(await readFile(join(directory, KEY_FILE)));
    expect((await open(directory)).rootCertificate).toEqual(new Uint8Array(raw));
  });
});

describe("what others could have read or written is refused, and left as it is", () => {
  test.each([0o640, 0o620, 0o610, 0o604, 0o602, 0o601, 0o666, 0o777])("a key of mode %o", async (mode) => {
    const { directory, keyPath, text } = await newAuthority();
    await chmod(keyPath, mode);
    const message = expect.stringContaining(`${keyPath} belongs to uid`) as unknown;
    await expectRefusal(directory, { code: "E_DEV_AUTHORITY_ACCESS", message }, text);
    await chmod(keyPath, 0o600);
    await open(directory);
  });

  test.each([0o750, 0o770, 0o710, 0o705, 0o701, 0o777])("a folder of mode %o", async (mode) => {
    const { directory, text } = await newAuthority();
    await chmod(directory, mode);
    const message = expect.stringContaining(`${directory} belongs to uid`) as unknown;
    await expectRefusal(directory, { code: "E_DEV_AUTHORITY_ACCESS", message }, text);
    await chmod(directory, 0o700);
    await open(directory);
  });

  test("a folder of mode 755 that has nothing in it yet: nothing is made there", async () => {
    const directory = await newDirectory();
    await mkdir(directory);
    await chmod(directory, 0o755);
    await expectRefusal(directory, { code: "E_DEV_AUTHORITY_ACCESS" });
    expect(await readdir(directory)).toEqual([]);
  });

  for (const what of ["the key", "the folder"] as const)
    test(`${what} of somebody else`, async ({ skip }) => {
      skip(!isRoot, ROOT_ONLY);
      const { directory, keyPath, text } = await newAuthority();
      await chown(what === "the key" ? keyPath : directory, OTHER_UID, OTHER_UID);
      const message = expect.stringContaining("belongs to uid 65534") as unknown;
      await expectRefusal(directory, { code: "E_DEV_AUTHORITY_ACCESS", message }, text);
    });

  test("a link to a folder of somebody else", async ({ skip }) => {
    skip(!isRoot, ROOT_ONLY);
    const theirs = await newDirectory();
    await mkdir(theirs, { mode: 0o700 });
    await chown(theirs, OTHER_UID, OTHER_UID);
    const path = join(dirname(theirs), "link");
    await symlink(theirs, path);
    await expectRefusal(path, { code: "E_DEV_AUTHORITY_ACCESS" });
    expect(await readdir(theirs)).toEqual([]);
  });

  test("a certificate of somebody else is put right: it is made of the root's file", async ({ skip }) => {
    skip(!isRoot, ROOT_ONLY);
    const { directory, root } = await newAuthority();
    const path = join(directory, CERTIFICATE_FILE);
    await chown(path, OTHER_UID, OTHER_UID);
    expect((await open(directory)).rootSha256).toBe(root);
    expect((await stat(path)).uid).toBe(process.geteuid?.());
  });
});

describe("what is no file of the authority is refused, and left as it is", () => {
  test.each(["a key that is there", "nothing"])("a symbolic link to %s", async (what) => {
    const { keyPath: target, directory: elsewhere, text } = await newAuthority();
    const directory = await newDirectory();
    await mkdir(directory, { mode: 0o700 });
    const to = what === "nothing" ? join(elsewhere, "nothing") : target;
    await symlink(to, join(directory, KEY_FILE));
    const message = `${join(directory, KEY_FILE)} cannot be used: ELOOP`;
    await expectRefusal(directory, { code: "E_DEV_AUTHORITY_FILE", message }, text);
    expect((await readdir(elsewhere)).sort()).toEqual([KEY_FILE, CERTIFICATE_FILE]);
    expect(await readFile(target, "utf8")).toBe(text);
  });

  test.each(["folder", "pipe"])("a %s in the key's place, which nobody waits for", async (what) => {
    const directory = await newDirectory();
    await mkdir(directory, { mode: 0o700 });
    const path = join(directory, KEY_FILE);
    if (what === "folder") await mkdir(path, { mode: 0o700 });
    else await run("mkfifo", ["-m", "600", path]);
    await expectRefusal(directory, { code: "E_DEV_AUTHORITY_FILE", message: `${path} cannot be used: it is no file` });
  }); // prettier-ignore

  test.each(["a file", "below a file", "a link to nothing"])("a folder that is %s", async (what) => {
    const path = await newDirectory();
    if (what === "a link to nothing") await symlink(join(base, "nothing"), path);
    else await writeFile(path, "text");
    const directory = what === "below a file" ? join(path, "authority") : path;
    await expect(open(directory)).rejects.toMatchObject({ code: "E_DEV_AUTHORITY_FILE" });
    expect(await readdir(base)).not.toContain("nothing");
  });
});

describe("a key file that is not whole is refused, and left as it is", () => {
  test.each([0, 1, 27, 100, 200, 310, 400, 700, -40, -2])("cut at %i", async (at) => {
    const { directory, keyPath, text } = await newAuthority();
    await truncate(keyPath, at < 0 ? text.length + at : at);
    const message = expect.stringContaining(`${keyPath} cannot be used: `) as unknown;
    await expectRefusal(directory, { code: "E_DEV_AUTHORITY_FILE", message }, text);
  });

  test.each([
    ["garbage", async () => Buffer.from("garbage\u0000\n").toString()],
    ["16 KiB and one byte", async (text: string) => text.padEnd(16 * 1024 + 1, "\n")],
    ["a key alone", async (text: string) => text.slice(0, text.indexOf("-----BEGIN CERTIFICATE"))],
    ["a certificate alone", async (text: string) => text.slice(text.indexOf("-----BEGIN CERTIFICATE"))],
    ["the certificate of another key", async () => pemOf(generateKeyPairSync("ec", { namedCurve: "P-384" }).privateKey, shared.rootCertificate)],
    ["one byte of the key changed", async (text: string) => text.replace(/(?<=BEGIN PRIVATE KEY-----\n.{80})./s, (was) => was === "A" ? "B" : "A")],
    ["one byte of the certificate changed", async (text: string) => text.replace(/.(?=.{60}\n-----END CERTIFICATE)/s, (was) => was === "A" ? "B" : "A")],
    ["a key on another curve", async () => await selfSignedByOpenssl("P-256")],
    ["a locked key", async (text: string) => lock(text)],
    ["a certificate that is of no authority", async () => await makeCertificate({ extensions: [] })],
    ["a certificate that another key signed", async () => await makeCertificate({ issuer: await otherIssuer() })],
    ["a certificate that is over", async () => await makeCertificate({ notBeforeMs: Date.now() - YEAR_MS, notAfterMs: Date.now() - 60_000 })],
    ["a certificate that is not yet valid", async () => await makeCertificate({ notBeforeMs: Date.now() + 60_000 })],
  ])("%s", async (_what, change) => {
    const { directory, keyPath, text } = await newAuthority();
    await writeFile(keyPath, await change(text));
    const message = expect.stringContaining(`${keyPath} cannot be used: `) as unknown;
    await expectRefusal(directory, { code: "E_DEV_AUTHORITY_FILE", message }, text);
  }); // prettier-ignore

  test("a clock before the root was made, or after its end", async () => {
    const { directory, root } = await newAuthority();
    const before = await snapshot(directory);
    for (const offsetMs of [-2 * 3_600_000, 31 * YEAR_MS])
      await expect(open(directory, () => Date.now() + offsetMs)).rejects.toMatchObject({
        code: "E_DEV_AUTHORITY_FILE",
        message: expect.stringContaining("by the clock") as unknown,
      });
    expect(await snapshot(directory)).toEqual(before);
    expect((await open(directory)).rootSha256).toBe(root);
  });
});

async function otherIssuer(): Promise<Issuer> {
  return { subject: writeName([["CN", "other"]]), keys: await makeKeys() };
}

async function selfSignedByOpenssl(namedCurve: string): Promise<string> {
  const directory = await newDirectory();
  const files = ["-keyout", `${directory}.key`, "-out", `${directory}.crt`];
  await run("openssl", ["req", "-x509", "-newkey", "ec", "-pkeyopt", `ec_paramgen_curve:${namedCurve}`, "-nodes", "-subj", "/CN=development", "-days", "30", ...files]); // prettier-ignore
  return `${await readFile(files[1] ?? "", "utf8")}${await readFile(files[3] ?? "", "utf8")}`;
}

function lock(text: string): string {
  const options = { type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase: "secret" } as const;
  return `${createPrivateKey(text).export(options)}${new X509Certificate(text).toString()}`;
}

describe("the certificate's own file is what the root's says, whatever was there", () => {
  test.each([
    ["gone", async (path: string) => await rm(path)],
    ["empty", async (path: string) => await truncate(path, 0)],
    ["of another root", async (path: string) => await writeFile(path, new X509Certificate(shared.rootCertificate).toString())],
    ["readable by others", async (path: string) => await chmod(path, 0o644)],
    ["writable by others", async (path: string) => await chmod(path, 0o602)],
    ["very long", async (path: string) => await writeFile(path, "x".repeat(100_000))],
    ["a pipe", async (path: string) => { await rm(path); await run("mkfifo", ["-m", "600", path]); }],
  ])("%s", async (_what, change) => {
    const { directory, root, keyPath, text } = await newAuthority();
    const path = join(directory, CERTIFICATE_FILE);
    const written = await readFile(path, "utf8");
    await change(path);
    expect((await open(directory)).rootSha256).toBe(root);
    expect([await readFile(path, "utf8"), await modeOf(path)]).toEqual([written, "600"]);
    expect(await readFile(keyPath, "utf8")).toBe(text);
    expect((await readdir(directory)).sort()).toEqual([KEY_FILE, basename(path)]);
  }); // prettier-ignore

  test("a symbolic link: what it leads to is not written", async () => {
    const { directory } = await newAuthority();
    const [path, target] = [join(directory, CERTIFICATE_FILE), join(dirname(directory), "target")];
    const written = await readFile(path, "utf8");
    await writeFile(target, "theirs");
    await rm(path);
    await symlink(target, path);
    await open(directory);
    expect([await readFile(target, "utf8"), await readFile(path, "utf8")]).toEqual(["theirs", written]);
    expect((await readdir(directory, { withFileTypes: true })).every((entry) => entry.isFile())).toBe(true);
  });
});
