import { join, relative } from "node:path";
import { expect, test } from "vitest";

import { readSources, ROOT, type SourceFile } from "./source-files.ts";

/** Folder to the folders it may import (ARCHITECTURE.md gives the reasons). */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  core: [],
  wire: ["core"],
  native: ["core", "wire"],
  attest: ["core", "wire", "native"],
  control: ["core", "wire", "attest", "archive"],
  rbuilds: ["core", "wire"],
  "pf-proxy": ["core", "wire", "native"],
  archive: ["core", "wire"],
  enclave: ["core", "wire", "native", "attest", "pf-proxy", "archive"],
  "ra-server": ["core", "wire", "native", "attest"],
  dev: ["core", "wire", "attest"],
  host: ["core", "wire", "native", "attest", "control", "rbuilds", "pf-proxy", "dev", "archive"],
};

/** Packages of npm that a folder may use; what goes into an enclave stays small. */
const PACKAGES: Readonly<Record<string, readonly string[]>> = {
  core: ["yaml"],
  wire: ["zod"],
  enclave: ["fastify", "zod"],
  control: ["commander"],
  "pf-proxy": ["dns-packet"],
  attest: ["@peculiar/asn1-schema", "@peculiar/asn1-x509", "undici"],
  "ra-server": ["@peculiar/x509", "fastify", "prom-client", "reflect-metadata", "zod"],
  dev: ["@peculiar/x509", "reflect-metadata"],
  host: ["commander", "undici", "zod"],
};

const IMPORT = /^(?:import|export)\s(?:[^;"]*?\sfrom\s)?"([^"]+)"|import\("([^"]+)"\)/gm;

function offences(file: SourceFile): string[] {
  const folder = file.path.split("/", 1)[0] ?? "";
  return [...file.text.matchAll(IMPORT)].flatMap(([, fixed, lazy = ""]) => {
    const specifier = fixed ?? lazy;
    if (isAllowed(file.path, folder, specifier)) return [];
    const allowed = [...(ALLOWED[folder] ?? []), ...(PACKAGES[folder] ?? [])].join(", ");
    return [`${file.path} imports ${specifier}; ${folder} may import ${allowed || "nothing"}`];
  });
}

function isAllowed(path: string, folder: string, specifier: string): boolean {
  if (specifier.startsWith("node:")) return true;
  if (!specifier.startsWith(".")) return (PACKAGES[folder] ?? []).includes(specifier);
  const target = relative(ROOT, join(ROOT, path, "..", specifier)).split("/", 1)[0] ?? "";
  return target === folder || (ALLOWED[folder] ?? []).includes(target);
}

test("every import goes in an allowed direction", async () => {
  const files = (
    await Promise.all(Object.keys(ALLOWED).map((folder) => readSources(`${folder}/**/*.ts`)))
  ).flat();
  expect(files.length).toBeGreaterThan(40);
  expect(files.flatMap(offences)).toEqual([]);
});

test("an import against the direction is found", () => {
  const file = {
    path: "core/errors.ts",
    text: 'import { x } from "../host/main.ts";\nimport y from "left-pad";',
  };
  expect(offences(file)).toHaveLength(2);
});

test("nothing but the checks of the tests themselves imports test/", async () => {
  const files = await readSources(
    "{core,wire,native,archive,attest,control,rbuilds,pf-proxy,enclave,ra-server,dev,host,scripts,bench}/**/*.ts",
  );
  expect(files.filter((file) => /from "[./]*\/test\//.test(file.text)).map((file) => file.path)).toEqual([]);
});
