/** Turns what zod found into the toolkit's errors: place, path, and the nearest key that exists. */
import type { z } from "zod";

import type { ErrorCode } from "../../core/error-table.ts";
import { KitError } from "../../core/errors.ts";
import { nearestName } from "../../core/nearest-name.ts";
import type { YamlFile, YamlPath } from "../../core/yaml-file.ts";
import { schemaKeys } from "./schema-keys.ts";

const MAX_REPORTED = 20;

interface Refusal {
  readonly code: ErrorCode;
  readonly message: string;
}

/** @throws E_CONFIG_UNKNOWN_KEY, E_CONFIG_INVALID, E_CONFIG_PORT: the first refusal; all are in `details.problems`. */
export function decodeYaml<S extends z.ZodType>(schema: S, file: YamlFile): z.output<S> {
  const parsed = schema.safeParse(file.value, { reportInput: true });
  if (parsed.success) return parsed.data;
  const refusals = parsed.error.issues.flatMap((issue) => describeIssue(schema, file, issue, []));
  const first = refusals[0] ?? { code: "E_CONFIG_INVALID", message: `${file.path}:1:1: not valid` };
  const problems = refusals.slice(0, MAX_REPORTED).map((refusal) => refusal.message);
  throw new KitError(first.code, problems.join("\n"), { details: { problems } });
}

function describeIssue(
  schema: z.ZodType,
  file: YamlFile,
  issue: z.core.$ZodIssue,
  prefix: YamlPath,
): Refusal[] {
  const path = [...prefix, ...issue.path.map(toKey)];
  if (issue.code === "unrecognized_keys") return issue.keys.map((key) => unknownKey(schema, file, path, key));
  if (issue.code === "invalid_union") return describeUnion(schema, file, issue, path);
  return [describeValue(file, issue, path)];
}

function describeUnion(
  schema: z.ZodType,
  file: YamlFile,
  issue: z.core.$ZodIssueInvalidUnion,
  path: YamlPath,
): Refusal[] {
  const best = bestAlternative(issue.errors, issue.input);
  if (best !== undefined) return best.flatMap((inner) => describeIssue(schema, file, inner, path));
  const foreign = keysUnknownToAll(issue.errors);
  if (foreign.length > 0) return foreign.map((key) => unknownKey(schema, file, path, key));
  return [describeValue(file, issue, path)];
}

function describeValue(file: YamlFile, issue: z.core.$ZodIssue, path: YamlPath): Refusal {
  if (issue.code === "invalid_key") {
    const why = issue.issues[0]?.message ?? "is not allowed";
    return { code: "E_CONFIG_INVALID", message: `${file.locateKey(path)}: ${dotted(path)}: ${why}` };
  }
  const isPort = issue.code === "custom" && issue.params?.["error"] === "E_CONFIG_PORT";
  const missing = issue.code !== "custom" && issue.input === undefined;
  const why = missing ? `is required${expectation(issue)}` : issue.message;
  const message = `${file.locate(path)}: ${dotted(path)}: ${why}`;
  return { code: isPort ? "E_CONFIG_PORT" : "E_CONFIG_INVALID", message };
}

function expectation(issue: z.core.$ZodIssue): string {
  return issue.code === "invalid_value" ? `: one of ${issue.values.map(String).join(", ")}` : "";
}

/** Of a union's alternatives the one that takes the value's own type: its refusals are the useful ones. */
function bestAlternative(
  alternatives: readonly (readonly z.core.$ZodIssue[])[],
  input: unknown,
): readonly z.core.$ZodIssue[] | undefined {
  if (input === undefined) return undefined;
  const deep = alternatives.filter((issues) =>
    issues.every((issue) => issue.path.length > 0 || issue.code === "custom"),
  );
  if (deep.length === 1) return deep[0];
  return deep.length === 1 ? deep[0] : undefined;
}

/** Keys that no alternative of a union knows. */
function keysUnknownToAll(alternatives: readonly (readonly z.core.$ZodIssue[])[]): string[] {
  const unknown = alternatives.flatMap((issues) =>
    issues.filter((issue) => issue.code === "unrecognized_keys"),
  );
  return (unknown[0]?.keys ?? []).filter((key) => unknown.every((issue) => issue.keys.includes(key)));
}

function unknownKey(schema: z.ZodType, file: YamlFile, path: YamlPath, key: string): Refusal {
  const near = nearestName(key, schemaKeys(schema, path));
  const suggestion = near === undefined ? "" : `; did you mean ${JSON.stringify(near)}?`;
  const place = file.locateKey([...path, key]);
  return {
    code: "E_CONFIG_UNKNOWN_KEY",
    message: `${place}: ${dotted([...path, key])}: unknown key${suggestion}`,
  };
}

function toKey(key: PropertyKey): string | number {
  return typeof key === "symbol" ? String(key) : key;
}

function dotted(path: YamlPath): string {
  return path.length === 0 ? "the file" : path.join(".");
}
