/** The verifier in a browser: the page of examples/verify-page from its files, and the module on genuine documents. */
import { createServer } from "node:http";
import { access, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

import type { Page } from "playwright-core";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";

import { DocumentVerifier } from "../../attest/verify/document-verifier.ts";
import { createNodeCrypto } from "../../attest/verify/node-crypto.ts";
import { AWS_ROOT_SHA256 } from "../../attest/verify/aws-root.ts";
import { toKitError } from "../../core/errors.ts";
import { DevelopmentNsm } from "../../dev/development-nsm.ts";
import { openDevelopmentAuthority } from "../../dev/development-authority.ts";
import { NsmClient } from "../../attest/nsm/nsm-client.ts";
import { ROOT } from "../structure/source-files.ts";
import { openChromium, type RunningBrowser } from "./chromium.ts";

const PAGE = pathToFileURL(join(ROOT, "dist", "verify-page", "index.html")).href;
const VECTORS = join(ROOT, "..", "shared", "vectors");
const OPEN_TIMEOUT_MS = 660_000;

/** Genuine documents, the time at which to look at them, and what the page must say. */
const GENUINE = [
  ["attestation-2022-11-09.cbor", "2022-11-09T22:52:01Z", "Verified"],
  ["attestation-2022-11-09-bad-signature.cbor", "2022-11-09T22:52:01Z", "E_EVIDENCE_SIGNATURE"],
  ["attestation-2025-01-06-public-key.cbor", "2025-01-06T16:07:06Z", "Verified"],
  ["attestation-2022-10-12-debug.cbor", "2022-10-12T13:50:07Z", "E_UNMET_DEBUG"],
  ["attestation-2025-11-10-indefinite-pcr16.cbor", "2025-11-10T17:20:11Z", "Verified"],
] as const;

/** They are not part of the project. */
const LACKS_VECTORS = await access(VECTORS).then(
  () => false,
  () => true,
);

let chromium: RunningBrowser;
let page: Page;
let directory: string;
const requests: string[] = [];

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "page-"));
  chromium = await openChromium();
  page = await chromium.browser.newPage();
  page.on("request", (request) => requests.push(request.url()));
}, OPEN_TIMEOUT_MS);
afterAll(async () => {
  await chromium[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});
beforeEach(async () => void (await page.goto(PAGE)));

/** What the page says after a file was chosen. */
async function judge(file: string): Promise<string> {
  await page.locator("#file").setInputFiles(file);
  await page.locator("#result h2").waitFor();
  return await page.locator("#result").innerText();
}

interface Made {
  readonly document: Uint8Array;
  readonly root: string;
  readonly registers: Readonly<Record<string, string>>;
}

async function makeDocument(nonce: Uint8Array): Promise<Made> {
  const nowMs = (): number => Date.now();
  const authority = await openDevelopmentAuthority({ directory: join(directory, "authority"), nowMs });
  const measurements = new Map([0, 1, 2].map((index) => [index, Buffer.alloc(48, index + 1)]));
  const nsm = new DevelopmentNsm({
    authority,
    measurements,
    moduleId: "i-page-enc1",
    nowMs,
    form: "indefinite",
  });
  const provider = {
    name: "development" as const,
    rootSha256: null,
    exchange: async (request: Uint8Array) => await nsm.handle(request),
    [Symbol.asyncDispose]: async () => await Promise.resolve(),
  };
  const document = await new NsmClient(provider).attest({ nonce }, AbortSignal.timeout(10_000));
  const registers = Object.fromEntries(
    [...measurements].map(([index, data]) => [`PCR${index}`, data.toString("hex")]),
  );
  return { document, root: authority.rootSha256, registers };
}

describe("the page", () => {
  test.skipIf(LACKS_VECTORS).each(GENUINE)(
    "judges the genuine %s at its time, and refuses it now",
    async (name, at, verdict) => {
      await page.locator("#at").fill(at);
      expect(await judge(join(VECTORS, name))).toContain(verdict);
      await page.reload();
      expect(await judge(join(VECTORS, name))).toContain("E_EVIDENCE_VALIDITY");
    },
  );

  test.skipIf(LACKS_VECTORS)("takes a debug enclave when it is told to", async () => {
    const [name, at] = GENUINE[3];
    await page.locator("#at").fill(at);
    await page.locator("#debug").check();
    const text = await judge(join(VECTORS, name));
    expect(text).toContain("Verified");
    expect(text).toContain("the enclave runs in debug mode");
  });

  test("by keyboard alone: a pasted document, another root, registers and a nonce", async () => {
    const made = await makeDocument(Buffer.from("aabb", "hex"));
    await page.locator("#text").focus();
    const words = [
      Buffer.from(made.document).toString("base64"),
      made.root,
      "now",
      JSON.stringify({ pcrs: made.registers }),
      "aabb",
    ];
    for (const [index, word] of words.entries()) {
      if (index > 0) await page.keyboard.press("Tab");
      await page.keyboard.press("ControlOrMeta+a");
      await page.keyboard.insertText(word);
    }
    await page.keyboard.press("Tab");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await page.locator("#result h2").waitFor();
    const text = await page.locator("#result").innerText();
    expect(text).toContain("Verified");
    expect(text).toContain("The registers are those that you gave");
    expect(text).toContain("It repeats your nonce");
  });

  test("tells bad evidence from what was not asked for, and garbage from both", async () => {
    const made = await makeDocument(Buffer.from("aa", "hex"));
    const file = join(directory, "proof.cbor");
    await writeFile(file, made.document);
    expect(await judge(file)).toContain("E_EVIDENCE_ROOT");
    await page.locator("#root").fill(`sha256:${made.root}`);
    await page.locator("#nonce").fill("ffff");
    await page.locator("button").click();
    await page.getByText("E_UNMET_NONCE").waitFor();
    const garbage = join(directory, "garbage");
    await writeFile(garbage, "garbage");
    expect(await judge(garbage)).toContain("Refused");
    await page.locator("#registers").fill("{");
    await page.locator("button").click();
    await page.getByText("Registers: that is no JSON").waitFor();
  });

  test("loads nothing but its own files, and sends nothing", () => {
    expect(requests.length).toBeGreaterThan(0);
    const foreign = requests.filter((url) => !url.startsWith(new URL(".", PAGE).href));
    expect(foreign).toEqual([]);
  });
});

describe("the module", () => {
  test("agrees with Node on documents in which any byte was changed", async () => {
    const made = await makeDocument(Buffer.from("aa", "hex"));
    const cases = Array.from({ length: 300 }, (_item, index) => {
      const changed = Buffer.from(made.document);
      const at = Math.floor((index * made.document.length) / 300);
      changed[at] = (changed[at] ?? 0) ^ (1 + (index % 255)); // eslint-disable-line no-bitwise
      return changed;
    });
    const atMs = Date.now();
    const verifier = new DocumentVerifier(createNodeCrypto());
    const policy = { roots: [made.root, AWS_ROOT_SHA256] };
    const verdictOf = async (document: Uint8Array): Promise<string> =>
      await verifier.verify(document, policy, atMs).then(() => "ok", (error: unknown) => toKitError(error).code); // prettier-ignore
    const here: string[] = [];
    for (const document of cases) here.push(await verdictOf(document));
    expect(new Set(here).size).toBeGreaterThan(3);
    const there = await judgeInBrowser(cases, policy, atMs);
    expect(there).toEqual(here);
  });
});

/** By the module of the package, in a page of a server: browsers load no modules from files. */
async function judgeInBrowser(
  documents: readonly Buffer[],
  policy: { readonly roots: readonly string[] },
  atMs: number,
): Promise<readonly string[]> {
  const module = await readFile(join(ROOT, "dist", "verify-browser.js"));
  const server = createServer((request, response) => {
    const isModule = request.url === "/verify-browser.js";
    response.setHeader("content-type", isModule ? "text/javascript" : "text/html");
    response.end(isModule ? module : "<!doctype html><title>module</title>");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  await using visited = await chromium.browser.newPage();
  try {
    await visited.goto(`http://127.0.0.1:${port}/`);
    // As text: this runs in the browser, of which this project has no types.
    const script = `(async ({ documents, policy, atMs }) => {
      const { createWebCrypto, DocumentVerifier } = await import("/verify-browser.js");
      const verifier = new DocumentVerifier(createWebCrypto());
      const verdicts = [];
      for (const text of documents) {
        const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
        verdicts.push(await verifier.verify(bytes, policy, atMs).then(() => "ok", (error) => error.code));
      }
      return verdicts;
    })(${JSON.stringify({ documents: documents.map((one) => one.toString("base64")), policy, atMs })})`;
    const verdicts: unknown = await visited.evaluate(script);
    return Array.isArray(verdicts) ? verdicts.map(String) : [];
  } finally {
    server.close();
  }
}
