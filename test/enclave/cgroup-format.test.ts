import fc from "fast-check";
import { expect, test } from "vitest";

import {
  parseIds,
  parseKeyed,
  parseLimit,
  parseNames,
  parseNumber,
  parseQuota,
} from "../../enclave/cgroups/control-format.ts";
import { parseCpuUsec, parseMeminfo, parseThreads } from "../../enclave/cgroups/machine-usage.ts";

const number = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER - 1 });
const key = fc.stringMatching(/^[a-z][a-z0-9_.]{0,20}$/);

test("a number comes back as it was written", () => {
  fc.assert(fc.property(number, (value) => parseNumber(`${value}\n`) === value));
});

test("numbers above 2^53 are cut off there", () => {
  expect(parseNumber("18446744073709551615\n")).toBe(Number.MAX_SAFE_INTEGER);
});

test.each(["", "\n", "1", "-1\n", "1 \n", " 1\n", "1\n\n", "0x1\n", "1e3\n", "1.5\n", "NaN\n", "1\0\n"])(
  "%j is no number",
  (text) => expect(parseNumber(text)).toBeUndefined(),
);

test("digits without end are no number", () => {
  expect(parseNumber(`${"1".repeat(21)}\n`)).toBeUndefined();
});

test("a limit is a number, or none in three spellings", () => {
  fc.assert(fc.property(number, (value) => parseLimit(`${value}\n`) === value));
  expect([parseLimit("max\n"), parseLimit("-1\n"), parseLimit("9223372036854771712\n")]).toEqual([
    null,
    null,
    null,
  ]);
  expect([parseLimit("max"), parseLimit("Max\n"), parseLimit("-2\n")]).toEqual([
    undefined,
    undefined,
    undefined,
  ]);
});

test("the value of a key is found whatever else is there", () => {
  const entries = fc.dictionary(key, number, { minKeys: 1, maxKeys: 30 });
  fc.assert(
    fc.property(entries, (values) => {
      const text = Object.entries(values)
        .map(([name, value]) => `${name} ${value}\n`)
        .join("");
      for (const [name, value] of Object.entries(values)) expect(parseKeyed(text, name)).toBe(value);
      expect(parseKeyed(text, "NOT_THERE")).toBeNull();
    }),
  );
});

test.each([
  "",
  "oom_kill",
  "oom_kill 1",
  "oom_kill\n",
  "oom_kill x\n",
  "oom_kill 1 2\n",
  "oom_kill 1\n\n",
  " 1\n",
])("%j is no list of keys and values", (text) => expect(parseKeyed(text, "oom_kill")).toBeUndefined());

test("a quota is a share of its period", () => {
  expect(parseQuota("150000 100000\n")).toBe(1.5);
  expect(parseQuota("max 100000\n")).toBeNull();
  expect(parseQuota("-1 100000\n")).toBeNull();
  for (const text of ["150000\n", "1 0\n", "1 2 3\n", "a 1\n", "1 a\n", "1 2"])
    expect(parseQuota(text)).toBeUndefined();
});

test("ids are listed without those of other pid namespaces and without a last one that was cut off", () => {
  expect(parseIds("1\n0\n17\n")).toEqual([1, 17]);
  expect(parseIds("1\n17")).toEqual([1]);
  expect(parseIds("")).toEqual([]);
  for (const text of ["x\n", "-1\n", "1 2\n", "2147483648\n", "\n"]) expect(parseIds(text)).toBeUndefined();
  const ids = fc.array(fc.integer({ min: 1, max: 2 ** 31 - 1 }));
  fc.assert(
    fc.property(ids, (list) => {
      expect(parseIds(list.map((id) => `${id}\n`).join(""))).toEqual(list);
    }),
  );
});

test("a tree without controllers has an empty list of them", () => {
  expect(parseNames("\n")).toEqual([]);
  expect(parseNames("cpu memory pids\n")).toEqual(["cpu", "memory", "pids"]);
  expect(parseNames("cpu Memory\n")).toBeUndefined();
});

test("any text gives a value in range or nothing", () => {
  const noise = fc.oneof(
    fc.string(),
    fc.string({ unit: fc.constantFrom("1", "9", " ", "\n", "max", "-", "a", ".") }),
  );
  const isFine = (value: number | null | undefined): boolean =>
    value === undefined || value === null || (value >= 0 && value <= Number.MAX_SAFE_INTEGER);
  fc.assert(
    fc.property(noise, (text) => {
      const values = [parseNumber(text), parseLimit(text), parseKeyed(text, "a"), parseQuota(text)];
      values.push(parseMeminfo(text, "a"), parseCpuUsec(text), parseThreads(text));
      expect(values.every(isFine)).toBe(true);
      expect(parseIds(text)?.every((id) => Number.isSafeInteger(id) && id > 0) ?? true).toBe(true);
      expect(parseNames(text)?.every((name) => name !== "") ?? true).toBe(true);
    }),
    { numRuns: 2_000 },
  );
});

test("the machine's own files are understood", () => {
  const meminfo = "MemTotal:       24036452 kB\nMemFree:        20000000 kB\nMemAvailable:   22000000 kB\n";
  expect(parseMeminfo(meminfo, "MemTotal")).toBe(24_036_452 * 1024);
  expect(parseMeminfo(meminfo, "Mem")).toBeNull();
  expect(parseCpuUsec("cpu  10 20 30 1000 2000 1 2 3 400 500\ncpu0 1 1 1 1 1 1 1 1 1 1\n")).toBe(66 * 10_000);
  expect(parseCpuUsec("cpu0 10 20 30 1000 2000 1 2 3 400 500\n")).toBeNull();
  expect(parseThreads("0.00 0.01 0.05 2/118 4242\n")).toBe(118);
  expect(parseThreads("2/118\n")).toBeNull();
});
