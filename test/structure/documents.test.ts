import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { EnclaveSchema } from "../../host/config/enclave-schema.ts";
import { loadEnclaveSpec } from "../../host/config/load-spec.ts";
import { schemaKeys } from "../../host/config/schema-keys.ts";
import { readSources, ROOT } from "./source-files.ts";

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "docs-"));
  await mkdir(join(directory, "app"));
});
afterAll(() => rm(directory, { recursive: true }));

describe("documents", () => {
  test("every enclave.yaml in a document is valid", async () => {
    const documents = [...(await readSources("*.md")), ...(await readSources("docs/**/*.md"))];
    const blocks = documents.flatMap(({ text }) =>
      [...text.matchAll(/```yaml\n(.*?)```/gs)].map((match) => match[1] ?? ""),
    );
    expect(blocks.length).toBeGreaterThan(0);
    for (const block of blocks) {
      const path = join(directory, "enclave.yaml");
      await writeFile(path, block);
      expect((await loadEnclaveSpec(path)).services.length).toBeGreaterThan(0);
    }
  });

  test("every link of a document to a file leads to one", async () => {
    const documents = [...(await readSources("*.md")), ...(await readSources("docs/**/*.md"))];
    expect(documents.length).toBeGreaterThan(10);
    for (const { path, text } of documents) {
      for (const [, target = ""] of text.matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)) {
        await expect(readFile(join(ROOT, path, "..", target)), `${path}: ${target}`).resolves.toBeDefined();
      }
    }
  });

  test("docs/enclave-yaml.md has every key of the schema", async () => {
    const text = await readFile(join(ROOT, "docs", "enclave-yaml.md"), "utf8");
    const keys = [
      ...schemaKeys(EnclaveSchema, []),
      ...schemaKeys(EnclaveSchema, ["image"]),
      ...schemaKeys(EnclaveSchema, ["services", "web"]),
      ...schemaKeys(EnclaveSchema, ["services", "web", "healthcheck"]),
    ];
    expect(keys.length).toBeGreaterThan(25);
    const absent = keys.filter(
      (key) => !new RegExp(`[\`.]${key}\\b`).test(text) && key !== "services" && key !== "image",
    );
    expect(absent).toEqual([]);
  });

  test("the tests that SECURITY.md names exist", async () => {
    const text = await readFile(join(ROOT, "SECURITY.md"), "utf8");
    const named = [...text.matchAll(/`(test\/[^`]+)`/g)].map((match) => match[1] ?? "");
    expect(named.length).toBeGreaterThan(5);
    for (const path of named) {
      expect(
        (await readSources(path.endsWith(".ts") ? path : `${path}/**/*.test.ts`)).length,
        path,
      ).toBeGreaterThan(0);
    }
  });

  test("the commands that README.md names are the ones that exist", async () => {
    const readme = await readFile(join(ROOT, "README.md"), "utf8");
    const scripts: unknown = JSON.parse(await readFile(join(ROOT, "package.json"), "utf8"));
    expect(scripts).toMatchObject({
      bin: { pipeline: "bin/pipeline.js" },
      scripts: { test: expect.any(String) },
    });
    expect(readme).toContain("npm ci && npx pipeline up examples/hello/enclave.yaml -d");
    expect(readme).toContain("npm ci && npm test");
    expect(await readFile(join(ROOT, ".ci", "run"), "utf8")).toMatch(/npm ci[\s\S]*npm test/);
  });
});
