import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { KitError } from "../../core/errors.ts";
import { inspectEnclave, listEnclaves } from "../../host/controller/inspect.ts";
import { identifyProcess, isRunning } from "../../core/process-identity.ts";
import {
  claimName,
  decodeRecord,
  readRecord,
  writeFirstRecord,
  writeRecord,
} from "../../host/state/record-store.ts";
import { recordOf } from "./record-of.ts";

let stateDir: string;
beforeAll(async () => {
  stateDir = await mkdtemp(join(tmpdir(), "rec-"));
});
afterAll(() => rm(stateDir, { recursive: true }));

test("of many that claim one name at once exactly one gets it", async () => {
  const claims = await Promise.all(
    Array.from({ length: 20 }, async () => await claimName(stateDir, "wanted")),
  );
  expect(claims.filter(Boolean)).toHaveLength(1);
});

test("a record is read as it was written", async () => {
  await claimName(stateDir, "same");
  const record = recordOf("same", { state: "stopped", reason: "because" });
  await writeRecord(stateDir, record);
  expect(await readRecord(stateDir, "same")).toEqual(record);
});

test("the first record does not replace what the runner wrote already, and leaves no other file", async () => {
  await claimName(stateDir, "first");
  await writeFirstRecord(stateDir, recordOf("first", { state: "starting" }));
  expect(await readRecord(stateDir, "first")).toMatchObject({ state: "starting" });
  await writeRecord(stateDir, recordOf("first", { state: "running" }));
  await writeFirstRecord(stateDir, recordOf("first", { state: "starting" }));
  expect(await readRecord(stateDir, "first")).toMatchObject({ state: "running" });
  expect(await readdir(join(stateDir, "enclaves", "first"))).toEqual(["record.json"]);
});

test("a directory that an up left before its runner began is no enclave, and suggests no name", async () => {
  await claimName(stateDir, "halfway");
  await expect(inspectEnclave(stateDir, "halfway")).rejects.toMatchObject({
    code: "E_HOST_NOT_FOUND",
    message: expect.not.stringContaining("did you mean"),
  });
  expect((await listEnclaves(stateDir)).records.map((record) => record.name)).not.toContain("halfway");
});

test("the record of a runner that died tells so, and its sockets are removed", async () => {
  await claimName(stateDir, "orphan");
  const directory = join(stateDir, "enclaves", "orphan");
  await mkdir(join(directory, "vsock", "guest"), { recursive: true });
  await writeFile(join(directory, "runner.sock"), "");
  // This process lives, but began at another time: its id was used again.
  const self = await identifyProcess(process.pid);
  await writeRecord(
    stateDir,
    recordOf("orphan", { runner: { pid: process.pid, startTicks: (self?.startTicks ?? 0) - 1 } }),
  );
  const record = await inspectEnclave(stateDir, "orphan");
  expect(record).toMatchObject({
    state: "failed",
    runner: { pid: null },
    services: [{ state: "stopped", pid: null }],
  });
  expect(record.reason).toContain("runner died");
  expect(await readdir(directory)).toEqual(["record.json"]);
});

test("a process is told from a later one with its id", async () => {
  const self = await identifyProcess(process.pid);
  expect(self).toBeDefined();
  if (self === undefined) return;
  expect(await isRunning(self)).toBe(true);
  expect(await isRunning({ ...self, startTicks: self.startTicks + 1 })).toBe(false);
  expect(await identifyProcess(2 ** 22 + 1)).toBeUndefined();
});

describe("damaged records", () => {
  test("do not hide the others, and are named", async () => {
    await claimName(stateDir, "broken");
    await writeFile(join(stateDir, "enclaves", "broken", "record.json"), '{"version":1}');
    const { records, damaged } = await listEnclaves(stateDir);
    expect(records.map((record) => record.name)).toContain("same");
    expect(damaged).toMatchObject([
      { code: "E_HOST_STATE_DAMAGED", message: expect.stringContaining("broken") },
    ]);
  });

  test("a record that is no file is named too", async () => {
    await mkdir(join(stateDir, "enclaves", "folder", "record.json"), { recursive: true });
    await writeFile(join(stateDir, "enclaves", "stray"), "");
    const { damaged } = await listEnclaves(stateDir);
    const messages = damaged.map((error) => error.message);
    expect(messages).toContainEqual(expect.stringMatching(/folder.*EISDIR/));
    expect(messages).toContainEqual(expect.stringMatching(/stray.*ENOTDIR/));
  });

  test("an unknown name is refused with the nearest one", async () => {
    await expect(inspectEnclave(stateDir, "smae")).rejects.toMatchObject({
      code: "E_HOST_NOT_FOUND",
      message: expect.stringContaining('did you mean "same"'),
    });
  });

  test("any text, and any change of a good record, is a record or a coded refusal", () => {
    const good = JSON.stringify(recordOf("x"));
    const changed = fc
      .tuple(fc.nat(good.length - 1), fc.string({ maxLength: 3 }))
      .map(([at, text]) => good.slice(0, at) + text + good.slice(at + 1));
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json(), changed), (text) => {
        try {
          decodeRecord(text, "record");
        } catch (error) {
          expect(error).toBeInstanceOf(KitError);
        }
      }),
    );
  });
});
