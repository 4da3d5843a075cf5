import fc from "fast-check";
import { expect, test } from "vitest";

import { decodeSessionStatus, decodeTicket, toExecStatus } from "../../enclave/api/session-answers.ts";
import { parseBody, parseId, parseQuery } from "../../enclave/api/request-values.ts";
import { EventsQuery, LogsQuery, StatsQuery } from "../../enclave/api/routes.ts";
import { ExecRequestSchema, TerminalSizeSchema } from "../../wire/control-schemas.ts";
import { decodeRequest } from "../../wire/supervisor-frames.ts";
import { isKitError } from "../enclave/kit-error.ts";

const word = fc.string({ unit: "binary", maxLength: 20 }).filter((text) => !text.includes("\0"));
const name = fc.stringMatching(/^[^=\0]{1,20}$/).filter((text) => text !== "__proto__");
const execRequest = fc.record(
  {
    command: fc.array(word, { minLength: 1, maxLength: 5 }),
    service: fc.stringMatching(/^[a-z]{1,20}$/),
    user: fc.stringMatching(/^[a-z0-9:]{1,20}$/),
    environment: fc.dictionary(name, word, { maxKeys: 5, noNullPrototype: true }),
    workingDir: word.map((text) => `/${text}`),
    tty: fc.boolean(),
  },
  { requiredKeys: ["command"] },
);
const size = fc.record({
  rows: fc.integer({ min: 1, max: 10_000 }),
  columns: fc.integer({ min: 1, max: 10_000 }),
});
const id = fc.integer({ min: 1, max: 0xff_ff_ff_ff });

function decode(method: string, params: unknown): unknown {
  return decodeRequest(JSON.parse(JSON.stringify({ id: 1, method, params })));
}

test("every request that a client may make passes both decoders unchanged", () => {
  fc.assert(
    fc.property(execRequest, (request) => {
      const parsed = parseBody(JSON.parse(JSON.stringify(request)), ExecRequestSchema);
      expect(parsed).toEqual(request);
      expect(decode("exec.create", parsed)).toEqual({ id: 1, method: "exec.create", params: request });
    }),
  );
});

test("sizes, waits, signals and copies come through as they were sent", () => {
  fc.assert(
    fc.property(id, size, fc.integer({ min: 0, max: 30_000 }), (session, terminal, waitMs) => {
      for (const [method, params] of [
        ["exec.start", { id: session, ...terminal }],
        ["exec.resize", { id: session, ...terminal }],
        ["exec.wait", { id: session, waitMs }],
        ["exec.signal", { id: session, signal: "SIGTERM" }],
        ["archive.create", { direction: "pack", path: "/a b" }],
      ] as const) {
        expect(decode(method, params)).toEqual({ id: 1, method, params });
      }
    }),
  );
});

test.each([
  ["exec.create", {}],
  ["exec.create", { command: "true" }],
  ["exec.create", { command: [] }],
  ["exec.create", { command: ["a\0"] }],
  ["exec.create", { command: [1] }],
  ["exec.create", { command: ["x".repeat(128 * 1024 + 1)] }],
  ["exec.create", { command: Array.from({ length: 1025 }, () => "x") }],
  ["exec.create", { command: ["x"], privileged: true }],
  ["exec.create", { command: ["x"], tty: 1 }],
  ["exec.create", { command: ["x"], user: "u".repeat(65) }],
  ["exec.create", { command: ["x"], service: null }],
  ["exec.create", { command: ["x"], workingDir: "tmp" }],
  ["exec.create", { command: ["x"], workingDir: "/\0" }],
  ["exec.create", { command: ["x"], environment: [] }],
  ["exec.create", { command: ["x"], environment: { "": "x" } }],
  ["exec.create", { command: ["x"], environment: { "a=b": "x" } }],
  ["exec.create", { command: ["x"], environment: { a: 1 } }],
  ["exec.create", { command: ["x"], environment: { a: "\0" } }],
  ["archive.create", { direction: "pack", path: "a" }],
  ["archive.create", { direction: "both", path: "/a" }],
  ["archive.create", { direction: "pack", path: "/a\0b" }],
  ["archive.create", { direction: "pack", path: `/${"a".repeat(4096)}` }],
  ["exec.start", { id: 0, rows: 1, columns: 1 }],
  ["exec.start", { id: 1, rows: 0, columns: 1 }],
  ["exec.start", { id: 1, rows: 1, columns: 10_001 }],
  ["exec.start", { id: 1, rows: 1.5, columns: 1 }],
  ["exec.start", { id: 1 }],
  ["exec.resize", { id: 1, rows: 1, columns: 1, token: "x" }],
  ["exec.wait", { id: 1, waitMs: 30_001 }],
  ["exec.wait", { id: 1, waitMs: -1 }],
  ["exec.signal", { id: 1, signal: 9 }],
  ["exec.signal", { id: "1", signal: "SIGTERM" }],
  ["exec.kill", { id: 1 }],
])("%s %j is refused", (method, params) => {
  expect(() => decode(method, params)).toThrow(isKitError("E_ENCLAVE_FRAME"));
});

test("an environment cannot reach the prototype of anything", () => {
  const request = decodeRequest(
    JSON.parse('{"id":1,"method":"exec.create","params":{"command":["x"],"environment":{"__proto__":"x"}}}'),
  );
  expect(request).toMatchObject({ method: "exec.create" });
  expect(Object.prototype).not.toHaveProperty("x");
  expect(({} as Record<string, unknown>)["x"]).toBeUndefined();
});

test("any values are decoded or refused with E_ENCLAVE_FRAME, answers as well", () => {
  const methods = fc.constantFrom("exec.create", "exec.start", "exec.wait", "exec.signal", "archive.create");
  fc.assert(
    fc.property(methods, fc.jsonValue(), fc.jsonValue(), (method, params, answer) => {
      const decoders = [
        () => decodeRequest({ id: 1, method, params }),
        () => decodeTicket(answer),
        () => decodeSessionStatus(answer),
      ];
      for (const decoder of decoders) {
        try {
          expect(decoder()).toBeTypeOf("object");
        } catch (error) {
          expect(error).toEqual(isKitError("E_ENCLAVE_FRAME"));
        }
      }
    }),
    { numRuns: 1000 },
  );
});

test("tickets and states of sessions", () => {
  const token = "0123456789abcdef".repeat(2);
  expect(decodeTicket({ id: 1, token, streams: [0, 1, 2] })).toEqual({ id: 1, token, streams: [0, 1, 2] });
  const status = { id: 1, state: "ended", pid: null, exitCode: 255, reason: "exited(255)", report: "told" };
  expect(decodeSessionStatus(status)).toEqual(status);
  expect(toExecStatus(decodeSessionStatus(status))).not.toHaveProperty("report");
});

test.each([
  ["a token of another length", () => decodeTicket({ id: 1, token: "ab", streams: [0] })],
  ["a stream that is none", () => decodeTicket({ id: 1, token: "0".repeat(32), streams: [3] })],
  ["too many streams", () => decodeTicket({ id: 1, token: "0".repeat(32), streams: [0, 1, 2, 0] })],
  [
    "a status out of range",
    () => decodeSessionStatus({ id: 1, state: "ended", pid: null, exitCode: 256, reason: null, report: "" }),
  ],
  [
    "an unknown state",
    () => decodeSessionStatus({ id: 1, state: "lost", pid: null, exitCode: 0, reason: null, report: "" }),
  ],
])("%s is refused", (_name, decoder) => {
  expect(decoder).toThrow(isKitError("E_ENCLAVE_FRAME"));
});

test("any query and any body are values or E_CONTROL_REQUEST", () => {
  const key = fc.constantFrom("after", "since", "tail", "follow", "service", "intervalMs", "__proto__", "x");
  const pairs = fc.array(
    fc.tuple(key, fc.oneof(word, fc.nat().map(String), fc.constantFrom("true", "false"))),
    {
      maxLength: 5,
    },
  );
  fc.assert(
    fc.property(pairs, fc.jsonValue(), fc.string(), (query, body, number) => {
      const url = `/v1/logs?${new URLSearchParams(query.map(([one, value]) => [one, value.toWellFormed()])).toString()}`;
      const readers = [
        () => parseQuery(url, LogsQuery),
        () => parseQuery(url, EventsQuery),
        () => parseQuery(url, StatsQuery),
        () => parseBody(body, ExecRequestSchema),
        () => parseBody(body, TerminalSizeSchema),
        () => parseId(number),
      ];
      for (const reader of readers) {
        try {
          expect(reader()).toBeDefined();
        } catch (error) {
          expect(error).toEqual(isKitError("E_CONTROL_REQUEST"));
        }
      }
    }),
    { numRuns: 500 },
  );
});

test("what queries default to, and how often a key may come", () => {
  expect(parseQuery("/v1/logs", LogsQuery)).toEqual({ after: 0, follow: false });
  expect(parseQuery("/v1/events", EventsQuery)).toEqual({ after: 0, follow: true });
  expect(parseQuery("/v1/logs?service=a&service=b&tail=3&since=9", LogsQuery)).toEqual({
    service: ["a", "b"],
    tail: 3,
    since: 9,
    after: 0,
    follow: false,
  });
  expect(() => parseQuery("/v1/logs?tail=1&tail=2", LogsQuery)).toThrow(isKitError("E_CONTROL_REQUEST"));
});
