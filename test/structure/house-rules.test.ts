import { expect, test } from "vitest";

import { readSources } from "./source-files.ts";

const PRODUCT =
  "{core,wire,native,archive,attest,control,rbuilds,pf-proxy,enclave,ra-server,dev,host}/**/*.ts";

test("only main programs read the environment or the arguments", async () => {
  const files = await readSources(PRODUCT);
  expect(files.length).toBeGreaterThan(40);
  const offenders = files.filter(
    (file) => !/(^|\/|-)main\.ts$/.test(file.path) && /process\.(env|argv)\b/.test(file.text),
  );
  expect(offenders.map((file) => file.path)).toEqual([]);
});

test("nothing is kept at module level: no top-level let, no exported instances", async () => {
  const offenders = (await readSources(PRODUCT)).filter((file) => /^(export )?let /m.test(file.text));
  expect(offenders.map((file) => file.path)).toEqual([]);
});

test("no index files and no catch-all names", async () => {
  const offenders = (await readSources(PRODUCT)).filter((file) =>
    /(^|\/)(index|utils?|helpers?|common|types|misc)\.ts$/.test(file.path),
  );
  expect(offenders.map((file) => file.path)).toEqual([]);
});

test("no document or source names a machine's path or a package registry", async () => {
  const files = await readSources("{README,ARCHITECTURE,SECURITY,CONTRIBUTING,CHANGELOG}.md");
  const all = [
    ...files,
    ...(await readSources("docs/**/*.md")),
    ...(await readSources(PRODUCT)),
    ...(await readSources("test/**/*.ts")),
  ];
  expect(all.length).toBeGreaterThan(60);
  const named = /registry\.npm|npmjs|deb\.debian\.org|snapshot\.debian|\/work\/main/;
  const offenders = all.filter((file) => !file.path.endsWith("house-rules.test.ts") && named.test(file.text));
  expect(offenders.map((file) => file.path)).toEqual([]);
});
