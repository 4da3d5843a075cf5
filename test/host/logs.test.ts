import { mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";

import { followLogs, readLogs } from "../../host/controller/log-reader.ts";
import { LineGatherer } from "../../host/runner/line-gatherer.ts";
import { type HostLogEntry, LogWriter, MAX_FILE_BYTES, MAX_FILES } from "../../host/runner/log-writer.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "logs-"));
});
afterEach(() => rm(directory, { recursive: true }));

const entry = (line: string, service = "web", time = 1): HostLogEntry => ({
  time,
  service,
  stream: "stdout",
  line,
});

test("what was written is read, filtered by service, time and count", async () => {
  await using writer = await LogWriter.open(directory);
  await writer.write([entry("one"), entry("two", "db", 5), entry("three", "web", 9)]);
  const lines = async (options: Parameters<typeof readLogs>[1]): Promise<string[]> =>
    (await readLogs(directory, options)).map((one) => one.line);
  expect(await lines({})).toEqual(["one", "two", "three"]);
  expect(await lines({ tail: 2 })).toEqual(["two", "three"]);
  expect(await lines({ tail: 0 })).toEqual([]);
  expect(await lines({ services: ["db"] })).toEqual(["two"]);
  expect(await lines({ sinceMs: 6 })).toEqual(["three"]);
});

test("files rotate and stay within their bound, the newest entries survive, in order", async () => {
  await using writer = await LogWriter.open(directory);
  const filler = "x".repeat(4000);
  const perBatch = 500;
  const batches = Math.ceil(((MAX_FILES + 2) * MAX_FILE_BYTES) / (perBatch * 4000));
  for (let batch = 0; batch < batches; batch += 1) {
    await writer.write(
      Array.from({ length: perBatch }, (_, index) => entry(`${batch * perBatch + index} ${filler}`)),
    );
  }
  const names = await readdir(directory);
  expect(names.length).toBeLessThanOrEqual(MAX_FILES);
  for (const name of names)
    expect((await stat(join(directory, name))).size).toBeLessThan(MAX_FILE_BYTES + 3_000_000);
  const numbers = (await readLogs(directory, {})).map((one) => Number.parseInt(one.line, 10));
  expect(numbers.at(-1)).toBe(batches * perBatch - 1);
  expect(numbers.every((number, index) => index === 0 || number === (numbers[index - 1] ?? 0) + 1)).toBe(
    true,
  );
});

test("a follower sees what comes, across a rotation, and ends after the last", async () => {
  await using writer = await LogWriter.open(directory);
  const ended = new AbortController();
  const seen: string[] = [];
  const following = (async () => {
    for await (const one of followLogs(directory, { signal: ended.signal })) seen.push(one.line.slice(0, 6));
  })();
  await writer.write([entry("first")]);
  await writer.write(Array.from({ length: 3000 }, () => entry("f".repeat(4000))));
  await writer.write([entry("last")]);
  ended.abort();
  await following;
  expect(seen[0]).toBe("first");
  expect(seen.at(-1)).toBe("last");
  expect(seen).toHaveLength(3002);
});

test("a follower begins with the last lines that are asked for", async () => {
  await using writer = await LogWriter.open(directory);
  await writer.write([entry("one"), entry("two"), entry("three")]);
  const ended = new AbortController();
  const seen: string[] = [];
  const following = (async () => {
    for await (const one of followLogs(directory, { signal: ended.signal, tail: 1 })) seen.push(one.line);
  })();
  await writer.write([entry("four")]);
  ended.abort();
  await following;
  // "four" may be written before the follower looks; then it is the last line.
  expect(seen.slice(-1)).toEqual(["four"]);
  expect(["three", "four"]).toContain(seen[0]);
});

test("a line that a full disk cut does not hide the others", async () => {
  const whole = JSON.stringify(entry("whole"));
  await writeFile(join(directory, "0.ndjson"), `${whole}\n{"time":1,"serv${whole}\n\n${whole}\n{"time"`);
  expect((await readLogs(directory, {})).map((one) => one.line)).toEqual(["whole", "whole"]);
});

test("lines of a console come without their ends, whatever it makes of those", () => {
  const gatherer = new LineGatherer();
  const text = Buffer.from("one\r\ntwo\r\r\n\nth\rree\n");
  const lines = Array.from(text, (_byte, index) => gatherer.add(text.subarray(index, index + 1))).flat();
  expect(lines).toEqual(["one", "two", "", "th\rree"]);
});

test("the console is cut into lines whatever the chunks, and a line without end is cut", () => {
  const gatherer = new LineGatherer();
  expect(gatherer.add(Buffer.from("one\ntw"))).toEqual(["one"]);
  expect(gatherer.add(Buffer.from("o\n\n"))).toEqual(["two", ""]);
  const long = gatherer.add(Buffer.alloc(10_000, "x"));
  expect(long.map((line) => line.length)).toEqual([4096, 4096]);
  expect(gatherer.add(Buffer.from("\n"))).toEqual(["x".repeat(10_000 - 2 * 4096)]);
});
