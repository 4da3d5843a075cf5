/** `pipeline verify` as people and scripts call it. */
import { X509Certificate } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, type TestContext } from "vitest";
import { z } from "zod";

import { encodeUserData } from "../../attest/user-data.ts";
import { AWS_ROOT_SHA256 } from "../../attest/verify/aws-root.ts";
import { createNodeCrypto } from "../../attest/verify/node-crypto.ts";
import { type DevelopmentAuthority, openDevelopmentAuthority } from "../../dev/development-authority.ts";
import { makeDocument } from "../../scripts/attestation-fuzz/development-documents.ts";
import { MAX_DOCUMENT_BYTES } from "../../wire/attestation-document.ts";
import { encodeCbor } from "../../wire/cbor/cbor-encoder.ts";
import {
  AT_MS,
  type DocumentParts,
  registers,
  rootOf,
  TestAuthority,
} from "../attest/verify/test-authority.ts";
import { pathOf, VECTORS, whyMissing } from "../attest/verify/vectors.ts";
import { type CommandResult, openTestbed, runCommand, type Testbed } from "../e2e/testbed.ts";
import { openEifBed } from "../rbuilds/eif-bed.ts";

const AT = new Date(AT_MS).toISOString();
const NONCE = Buffer.from("00112233", "hex");
const ESCAPE = "\u001B";
/** Registers as registers() has them. */
const PCR = (index: number): string => (0xa0 + index).toString(16).repeat(48);
const EXIT = { E_EVIDENCE: 3, E_UNMET: 4 } as const;

const VerifiedJson = z.object({
  verdict: z.literal("verified"),
  at: z.string(),
  audit: z.boolean(),
  root: z.object({ sha256: z.string(), aws: z.boolean() }),
  proven: z.array(z.string()),
  notProven: z.array(z.string()),
  document: z.object({
    moduleId: z.string(),
    timestampMs: z.number(),
    debug: z.boolean(),
    registers: z.record(z.string(), z.string()),
    nonce: z.string().nullable(),
    purpose: z.string().nullable(),
    chain: z.array(z.object({ subject: z.string(), notBefore: z.string(), notAfter: z.string() })),
  }),
});
const RefusedJson = z.object({
  error: z.object({ code: z.string(), message: z.string(), hint: z.string() }),
});

let bed: Testbed;
let directory: string;
let ca: TestAuthority;
let chain: readonly Uint8Array[];
let authority: DevelopmentAuthority;
/** A document of each development form, good for three hours from now. */
let fresh: Readonly<Record<"definite" | "indefinite", string>>;
/** A document of the authority in memory, good around AT. */
let past: string;
let count = 0;

beforeAll(async () => {
  bed = await openTestbed();
  directory = await mkdtemp(join(tmpdir(), "verify-"));
  ca = new TestAuthority();
  chain = ca.chain();
  authority = await openDevelopmentAuthority({ directory: join(directory, "ca"), nowMs: () => Date.now() });
  fresh = {
    definite: await save(await makeDocument(authority, "definite")),
    indefinite: await save(await makeDocument(authority, "indefinite")),
  };
  past = await saveDocument();
});
afterAll(async () => {
  await bed[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

async function save(bytes: Uint8Array | string): Promise<string> {
  count += 1;
  const path = join(directory, `file-${count}`);
  await writeFile(path, bytes);
  return path;
}

async function saveDocument({ entries, ...parts }: DocumentParts = {}): Promise<string> {
  return await save(ca.document({ chain, entries: { nonce: NONCE, ...entries }, ...parts }));
}

/** At its time and below its root, unless told. */
async function verify(document: string, ...words: readonly string[]): Promise<CommandResult> {
  const has = (name: string): boolean => words.includes(name);
  return await bed.run(
    "verify",
    "--document",
    document,
    ...(has("--root") ? [] : ["--root", `sha256:${rootOf(chain)}`]),
    ...(has("--at") ? [] : ["--at", AT]),
    ...words,
  );
}

/** `input` is a file that becomes the standard input. */
async function verifyInput(input: string, ...words: readonly string[]): Promise<CommandResult> {
  const command = bed.commandLine(["verify", "--document", "-", "--at", AT, "--root", `sha256:${rootOf(chain)}`, ...words]); // prettier-ignore
  return await runCommand(["sh", "-c", 'exec "$@" < "$0"', input, ...command]);
}

function expectRefusal(result: CommandResult, code: string): void {
  expect(result.stderr).toContain(`error[${code}]: `);
  expect(result.stderr).toContain("hint: ");
  expect(result.status).toBe(code.startsWith("E_EVIDENCE_") ? EXIT.E_EVIDENCE : EXIT.E_UNMET);
}

function expectUsage(result: CommandResult, message: RegExp): void {
  expect(result.stderr).toMatch(/^error\[E_USAGE\]: /);
  expect(result.stderr).toMatch(message);
  expect(result.stderr).toContain("hint: ");
  expect(result.stdout).toBe("");
  expect(result.status).toBe(2);
}

describe.each(VECTORS)("the genuine $name", (vector) => {
  const { at, refusal } = vector;
  const path = pathOf(vector);
  const judge = async (...words: string[]) => await bed.run("verify", "--document", path, "--root", "aws", ...words);

  test(`at its time ends with ${refusal ?? "0"}`, async ({ skip }) => {
    const why = await whyMissing(vector);
    skip(why !== undefined, why);
    const result = await judge("--at", at);
    if (refusal !== null) return expectRefusal(result, refusal);
    expect(result).toMatchObject({ status: 0, stderr: "" });
    expect(result.stdout).toContain("+ a Nitro Security Module of AWS signed the document");
    expect(result.stdout).toContain("- anything about now");
  });

  test("now, and below another root, ends with 3", async ({ skip }) => {
    const why = await whyMissing(vector);
    skip(why !== undefined, why);
    expectRefusal(await judge("--at", "now"), "E_EVIDENCE_VALIDITY");
    const other = ["verify", "--document", path, "--at", at, "--root", authority.rootPath];
    expectRefusal(await bed.run(...other), "E_EVIDENCE_ROOT");
  });

  if (refusal !== "E_UNMET_DEBUG") return;
  test("ends with 0 where debug mode is allowed", async ({ skip }) => {
    const why = await whyMissing(vector);
    skip(why !== undefined, why);
    const result = await judge("--at", at, "--allow-debug");
    expect(result).toMatchObject({ status: 0, stderr: "" });
    expect(result.stdout).toContain("- anything about its memory: it is in debug mode, and that was allowed");
    expect(result.stdout).not.toContain("+ the enclave is not in debug mode");
  });
}); // prettier-ignore

describe("a document of a development authority", () => {
  test.each(["definite", "indefinite"] as const)("of %s length is verified now by its root's file", async (form) => {
    const result = await verify(fresh[form], "--at", "now", "--root", authority.rootPath);
    expect(result).toMatchObject({ status: 0, stderr: "" });
    expect(result.stdout).toContain("verified: everything that was asked for holds");
    expect(result.stdout).toContain(`+ a module below the root sha256:${authority.rootSha256} signed`);
    expect(result.stdout).toContain("- that there is hardware: the root is not that of AWS");
    expect(result.stdout).not.toContain("anything about now");
  }); // prettier-ignore

  test("is verified by its root as DER, as PEM and by its digest in any case", async () => {
    const { raw } = new X509Certificate(await readFile(authority.rootPath));
    for (const root of [
      await save(raw),
      authority.rootPath,
      `sha256:${authority.rootSha256}`,
      `sha256:${authority.rootSha256.toUpperCase()}`,
    ]) {
      const result = await verify(fresh.indefinite, "--at", "now", "--root", root);
      expect(result).toMatchObject({ status: 0, stderr: "" });
    }
  });

  test("is refused below the root of AWS, and below any other", async () => {
    for (const root of ["aws", `sha256:${AWS_ROOT_SHA256}`, `sha256:${rootOf(chain)}`])
      expectRefusal(await verify(fresh.indefinite, "--at", "now", "--root", root), "E_EVIDENCE_ROOT");
  });

  test("is refused before it was made, and when it has ended", async () => {
    const hourMs = 3_600_000;
    for (const atMs of [Date.now() - 48 * hourMs, Date.now() + 4 * hourMs]) {
      const at = new Date(atMs).toISOString();
      const result = await verify(fresh.definite, "--at", at, "--root", authority.rootPath);
      expectRefusal(result, "E_EVIDENCE_VALIDITY");
    }
  });

  test("with a signature that does not hold is bad evidence, whatever else was asked for", async () => {
    const document = await saveDocument({ signature: (genuine) => genuine.map((byte) => byte ^ 1) });
    expectRefusal(await verify(document), "E_EVIDENCE_SIGNATURE");
    expectRefusal(await verify(document, "--nonce", "ff", "--allow-debug"), "E_EVIDENCE_SIGNATURE");
    expect((await verify(document)).stdout).toBe("");
  });

  test("of an enclave in debug mode is unmet policy unless it is allowed", async () => {
    const zero = new Uint8Array(48);
    const document = await saveDocument({ entries: { pcrs: registers({ 0: zero, 1: zero, 2: zero }) } });
    const refused = await verify(document);
    expectRefusal(refused, "E_UNMET_DEBUG");
    // What is authentic is told all the same.
    expect(refused.stdout).toContain("refused: the document is authentic, but not what was asked for");
    expect(refused.stdout).toContain("not met:");
    expect(refused.stdout).not.toContain("verified");
    expect(await verify(document, "--allow-debug")).toMatchObject({ status: 0, stderr: "" });
  });
});

describe("what was asked for", () => {
  test("registers: those of the document, one or more, in any case", async () => {
    const result = await verify(past, "--pcr", `0=${PCR(0)}`, "--pcr", `2=${PCR(2).toUpperCase()}`);
    expect(result).toMatchObject({ status: 0, stderr: "" });
    expect(result.stdout).toContain("+ the registers are those asked for: PCR0, PCR2");
    expect(result.stdout).not.toContain("which image runs");
    const other = await verify(past, "--pcr", `0=${PCR(0)}`, "--pcr", `1=${PCR(2)}`);
    expectRefusal(other, "E_UNMET_MEASUREMENTS");
    expect(other.stderr).toContain(`PCR1: expected ${PCR(2)}, found ${PCR(1)}`);
    expectRefusal(await verify(past, "--pcr", `31=${PCR(0)}`), "E_UNMET_MEASUREMENTS");
  });

  test("the registers of an image file, and others beside them", async () => {
    await using images = await openEifBed();
    const { pcrs } = await images.write("image.eif");
    const image = images.path("image.eif");
    const bytes = (value: string): Uint8Array => Buffer.from(value, "hex");
    const changes = { 0: bytes(pcrs.PCR0), 1: bytes(pcrs.PCR1), 2: bytes(pcrs.PCR2) };
    const document = await saveDocument({ entries: { pcrs: registers(changes) } });
    const result = await verify(document, "--image", image, "--pcr", `4=${PCR(4)}`, "--pcr", `0=${pcrs.PCR0}`);
    expect(result).toMatchObject({ status: 0, stderr: "" });
    expect(result.stdout).toContain("PCR0, PCR1, PCR2, PCR4");
    expectRefusal(await verify(document, "--image", image, "--pcr", `4=${PCR(0)}`), "E_UNMET_MEASUREMENTS");
    expectRefusal(await verify(past, "--image", image), "E_UNMET_MEASUREMENTS");
    expectUsage(await verify(document, "--image", image, "--pcr", `0=${PCR(0)}`), /--pcr 0 is not what/);
  }); // prettier-ignore

  test("a nonce, of one byte to more than a kilobyte", async () => {
    expect(await verify(past, "--nonce", "00112233")).toMatchObject({ status: 0, stderr: "" });
    for (const other of ["00112234", "001122", "0011223300"])
      expectRefusal(await verify(past, "--nonce", other), "E_UNMET_NONCE");
    expectRefusal(await verify(await saveDocument({ without: ["nonce"] }), "--nonce", "00"), "E_UNMET_NONCE");
    for (const sizeBytes of [1, 512, 513, 1025]) {
      const nonce = Buffer.alloc(sizeBytes, 0xab);
      const document = await saveDocument({ entries: { nonce } });
      expect(await verify(document, "--nonce", nonce.toString("hex"))).toMatchObject({ status: 0 });
      expectRefusal(await verify(document, "--nonce", "ab00"), "E_UNMET_NONCE");
    }
    expectUsage(await verify(past, "--nonce", ""), /at least one/);
  }); // prettier-ignore

  test("an age, and never a document from the future", async () => {
    const document = await saveDocument({ entries: { timestamp: AT_MS - 60_000 } });
    expect(await verify(document, "--max-age", "60s")).toMatchObject({ status: 0, stderr: "" });
    expect((await verify(document, "--max-age", "1m")).stdout).toContain(
      "+ the document is at most 60 s old",
    );
    expectRefusal(await verify(document, "--max-age", "59s"), "E_UNMET_AGE");
    const future = await saveDocument({ entries: { timestamp: AT_MS + 120_000 } });
    expectRefusal(await verify(future), "E_UNMET_AGE");
  });

  test("a purpose and its data", async () => {
    const crypto = createNodeCrypto();
    const data = Buffer.from("order 17");
    const user_data = await encodeUserData("statement", data, (bytes) => crypto.sha256(bytes));
    const document = await saveDocument({ entries: { user_data } });
    const file = await save(data);
    const result = await verify(document, "--purpose", "statement", "--data-file", file);
    expect(result).toMatchObject({ status: 0, stderr: "" });
    expect(result.stdout).toContain("+ it was made for the purpose statement over the data given");
    for (const words of [
      ["--purpose", "statement"],
      ["--purpose", "statement", "--data-file", await save("order 18")],
      ["--purpose", "ra-tls", "--data-file", file],
    ])
      expectRefusal(await verify(document, ...words), "E_UNMET_PURPOSE");
    const silent = await verify(document);
    expect(silent.stdout).toContain("- what its user data and public key are for");
  });

  test("and what was not is said to be not proven", async () => {
    const { stdout } = await verify(past);
    for (const words of ["which image runs", "that it answers you", "that it is fresh", "anything about now"])
      expect(stdout).toContain(`- ${words}`);
  });
});

describe("the document", () => {
  test("may come from the standard input, a file or a pipe", async () => {
    expect(await verifyInput(past)).toMatchObject({ status: 0, stderr: "" });
    const command = bed.commandLine(["verify", "--document", "-", "--at", AT, "--root", `sha256:${rootOf(chain)}`]); // prettier-ignore
    const piped = await runCommand(["sh", "-c", 'cat "$0" | "$@"', past, ...command]);
    expect(piped).toMatchObject({ status: 0, stderr: "" });
  });

  test("that is nothing, or of another form, or too large, is bad evidence", async () => {
    expectRefusal(await verifyInput("/dev/null"), "E_EVIDENCE_SIZE");
    expectRefusal(await verify(await save("")), "E_EVIDENCE_SIZE");
    const bytes = await readFile(past);
    for (const text of [bytes.toString("hex"), bytes.toString("base64"), JSON.stringify([...bytes])])
      expectRefusal(
        await verify(await save(text)),
        text.length > MAX_DOCUMENT_BYTES ? "E_EVIDENCE_SIZE" : "E_EVIDENCE_ENCODING",
      );
  });

  test("that never ends is read no further than a document can be", async () => {
    expectRefusal(await verify("/dev/zero"), "E_EVIDENCE_SIZE");
    expectRefusal(await verifyInput("/dev/zero"), "E_EVIDENCE_SIZE");
  });

  test("that is not there, or a directory, is a mistake", async () => {
    expectUsage(await verify(join(directory, "nothing")), /ENOENT/);
    expectUsage(await verify(directory), /EISDIR/);
  });
});

test("a refusal is one also where nobody reads the report, or it cannot be written", async () => {
  const command = bed.commandLine(["verify", "--document", past, "--at", AT, "--root", `sha256:${rootOf(chain)}`, "--nonce", "00"]); // prettier-ignore
  for (const line of ['{ "$@"; echo $? >&3; } 3>&1 >/dev/full', '{ { "$@"; echo $? >&3; } | true; } 3>&1'])
    expect((await runCommand(["sh", "-c", line, "sh", ...command])).stdout).toBe("4\n");
});

describe("misuse", () => {
  const digest = "ab".repeat(32);

  test.each<[what: string, words: readonly string[], message: RegExp]>([
    ["no document", ["--root", "aws", "--at", "now"], /--document is missing/],
    ["no root", ["--document", "x", "--at", "now"], /--root is missing/],
    ["no time", ["--document", "x", "--root", "aws"], /--at is missing/],
    ["nothing at all", [], /--document is missing/],
    ["another word", ["x.cbor"], /x\.cbor|too many/],
    ["a time without a zone", ["--at", "2026-01-31T12:00:00"], /zone/],
    ["a day that is none", ["--at", "2026-02-30T12:00:00Z"], /zone/],
    ["a time in words", ["--at", "yesterday"], /zone/],
    ["a digest that is short", ["--root", "sha256:abcd"], /no root of trust/],
    ["a digest alone", ["--root", digest], /cannot be read|no root/],
    ["another name of AWS", ["--root", "AWS"], /cannot be read|no root/],
    ["a root from the standard input", ["--root", "-"], /no root of trust/],
    ["a register above 31", ["--pcr", `32=${PCR(0)}`], /0 to 31/],
    ["a register that is short", ["--pcr", "0=abcd"], /96 hex digits/],
    ["a register without a value", ["--pcr", "0"], /N=HEX/],
    ["a register twice", ["--pcr", `0=${PCR(0)}`, "--pcr", `0=${PCR(0)}`], /twice/],
    ["half a byte", ["--nonce", "abc"], /hex/],
    ["a nonce that is text", ["--nonce", "hello"], /hex/],
    ["an age in words", ["--max-age", "soon"], /duration/],
    ["a purpose that is none", ["--purpose", "trust"], /ra-tls/],
    ["data without a purpose", ["--data-file", "x"], /--purpose/],
    ["data from the standard input", ["--purpose", "statement", "--data-file", "-"], /standard input/],
  ])("%s", async (_what, words, message) => {
    // What is not given above is right, but where it is what is missing.
    const isComplete = !/is missing/.test(message.source);
    const given = (name: string, value: string): string[] =>
      isComplete && !words.includes(name) ? [name, value] : [];
    expectUsage(
      await bed.run(
        "verify",
        ...given("--document", past),
        ...given("--root", `sha256:${rootOf(chain)}`),
        ...given("--at", AT),
        ...words,
      ),
      message,
    );
  });

  test("a root in a file that holds none, or is too large, or is not there", async () => {
    for (const path of [past, await save(""), await save("-----BEGIN CERTIFICATE-----\nAAAA\n"), "/dev/zero"])
      expectUsage(await verify(past, "--root", path), /no root of trust/);
    expectUsage(await verify(past, "--root", join(directory, "nothing")), /cannot be read/);
  });

  test("an image that is none is no proof of anything", async () => {
    const result = await verify(past, "--image", past);
    expect(result.stderr).toMatch(/^error\[E_EIF_/);
    expect(result.stdout).toBe("");
    expect([0, EXIT.E_UNMET]).not.toContain(result.status);
  });
});

describe("--json", () => {
  test("tells what was proven and what was not, and what the document says", async () => {
    const result = await verify(past, "--json", "--nonce", "00112233", "--pcr", `0=${PCR(0)}`);
    expect(result).toMatchObject({ status: 0, stderr: "" });
    const verdict = VerifiedJson.parse(JSON.parse(result.stdout));
    expect(verdict).toMatchObject({
      at: AT,
      audit: true,
      root: { sha256: rootOf(chain), aws: false },
      document: { timestampMs: AT_MS - 1000, debug: false, nonce: "00112233", purpose: null },
    });
    expect(verdict.document.registers).toMatchObject({ 0: PCR(0), 3: "0".repeat(96) });
    expect(verdict.document.chain.map(({ subject }) => subject)).toEqual([
      "CN=test root",
      "CN=test regional",
      "CN=test zonal",
      "CN=test instance",
      "CN=test leaf",
    ]);
    expect(verdict.proven).toContain("the document repeats the nonce");
    const now = await verify(fresh.definite, "--json", "--at", "now", "--root", authority.rootPath);
    expect(VerifiedJson.parse(JSON.parse(now.stdout)).audit).toBe(false);
  });

  test.each<[code: string, status: number, words: readonly string[]]>([
    ["E_EVIDENCE_VALIDITY", 3, ["--at", "now"]],
    ["E_EVIDENCE_ROOT", 3, ["--root", "aws"]],
    ["E_UNMET_NONCE", 4, ["--nonce", "00"]],
    ["E_USAGE", 2, ["--root", "sha256:ab"]],
    ["E_USAGE", 2, ["--nonce", "x"]],
  ])("tells a refusal by %s as an object, and nothing else", async (code, status, words) => {
    const result = await verify(past, "--json", ...words);
    expect(RefusedJson.parse(JSON.parse(result.stdout)).error.code).toBe(code);
    expect(result).toMatchObject({ status, stderr: "" });
  });
});

describe("on a terminal", () => {
  const onTerminal = async (words: readonly string[], environment: Readonly<Record<string, string>> = {}) => {
    const line = bed.commandLine(words).map((word) => `'${word.replaceAll("'", `'"'"'`)}'`).join(" ");
    const unset = { NO_COLOR: "", FORCE_COLOR: "", CI: "" };
    // The terminal of util-linux: what it shows, and the status of the program in it.
    return await runCommand(["script", "-qec", line, "/dev/null"], { ...unset, ...environment });
  }; // prettier-ignore
  const requireScript = async (skip: TestContext["skip"]): Promise<void> => {
    const hasScript = await runCommand(["script", "--version"]).then(
      ({ status }) => status === 0,
      () => false,
    );
    skip(!hasScript, "no program `script` of util-linux on this machine, which makes terminals");
  };
  const words = () => ["verify", "--document", past, "--at", AT, "--root", `sha256:${rootOf(chain)}`];

  test("the report is coloured, and in a pipe it is not", async ({ skip }) => {
    await requireScript(skip);
    const shown = await onTerminal(words());
    expect(shown.status).toBe(0);
    expect(shown.stdout).toContain(`${ESCAPE}[32mverified${ESCAPE}[39m: everything`);
    expect(shown.stdout).toContain(`${ESCAPE}[33m-${ESCAPE}[39m that it is fresh`);
    const piped = await bed.run(...words());
    expect(piped.stdout).toContain("verified: everything");
    expect(piped.stdout + piped.stderr).not.toContain(ESCAPE);
    const plain = await onTerminal(words(), { NO_COLOR: "1" });
    expect(plain.stdout).not.toContain(`${ESCAPE}[3`);
  });

  test("a refusal is red, and its status the same", async ({ skip }) => {
    await requireScript(skip);
    const refused = await onTerminal([...words(), "--nonce", "00"]);
    expect(refused.status).toBe(4);
    expect(refused.stdout).toContain(`${ESCAPE}[31mrefused${ESCAPE}[39m: the document is authentic`);
    expect(refused.stdout).toContain(`${ESCAPE}[31mx${ESCAPE}[39m nonce: expected 00`);
  });
});

describe("text of a document", () => {
  const HOSTILE = `x${ESCAPE}[2J${ESCAPE}]0;title\u0007\u009B2J\u007F\r\nproven:\n  + everything`;
  // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
  const CONTROLS = /[\u0000-\u0009\u000B-\u001F\u007F-\u009F]/;

  test("that is authentic neither moves the cursor nor adds lines to the report", async () => {
    const entries = { module_id: HOSTILE, [HOSTILE]: null };
    const plain = await verify(past);
    const result = await verify(await saveDocument({ entries }));
    expect(result.status).toBe(0);
    expect(result.stdout).not.toMatch(CONTROLS);
    expect(result.stdout.match(/^proven:/gm)).toHaveLength(1);
    // Two more: the key and that nobody knows what it means.
    expect(result.stdout.split("\n")).toHaveLength(plain.stdout.split("\n").length + 2);
  });

  test.each<[what: string, parts: () => DocumentParts]>([
    ["an algorithm", () => ({ protectedHeader: encodeCbor(new Map([[1, HOSTILE]])) })],
    ["a digest", () => ({ entries: { digest: HOSTILE } })],
    ["a register", () => ({ entries: { pcrs: new Map([[HOSTILE, new Uint8Array(48)]]) } })],
    ["a key that comes twice", () => ({ payload: Buffer.concat([Buffer.of(0xa2), encodeCbor(HOSTILE), Buffer.of(0), encodeCbor(HOSTILE), Buffer.of(0)]) })],
  ])("in the place of %s neither moves the cursor nor adds lines to the refusal", async (_what, parts) => {
    const result = await verify(await saveDocument(parts()));
    expect(result.status).toBe(3);
    expect(result.stderr).not.toMatch(CONTROLS);
    expect(result.stderr.trimEnd().split("\n")).toHaveLength(2);
    expect(result.stdout).toBe("");
  }); // prettier-ignore
});
