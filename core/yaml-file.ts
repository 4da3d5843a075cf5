/**
 * YAML files as untrusted input: bounded, one document, no duplicate keys, no alias bombs, every refusal with
 * file:line:column. Values are checked with a zod schema in host/config.
 */
import { readFile, stat } from "node:fs/promises";
import { type Document, isAlias, isMap, isScalar, LineCounter, type Node, parseDocument } from "yaml";

import { isErrno, KitError } from "./errors.ts";

export const MAX_YAML_BYTES = 1024 * 1024;
const MAX_ALIASES = 100;

export type YamlPath = readonly (string | number)[];

export interface YamlFile {
  readonly path: string;
  /** Plain objects, arrays and scalars. */
  readonly value: unknown;
  /** `file:line:column` of the value at `path`, or of the nearest parent that exists. */
  locate(path: YamlPath): string;
  /** `file:line:column` of the key itself. */
  locateKey(path: YamlPath): string;
}

/** @throws E_CONFIG_NOT_FOUND, E_CONFIG_TOO_LARGE, E_CONFIG_SYNTAX */
export async function readYamlFile(path: string): Promise<YamlFile> {
  return parseYaml(await readBounded(path), path);
}

/** @param name stands for the file in messages. @throws E_CONFIG_SYNTAX */
export function parseYaml(text: string, name: string): YamlFile {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: true, version: "1.2" });
  const at = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${name}:${line}:${col}`;
  };
  const first = document.errors[0];
  if (first !== undefined) throw syntaxError(`${at(first.pos[0])}: ${firstLine(first.message)}`, first);
  return {
    path: name,
    value: toValue(document, name),
    locate: (path) => at(valueOffset(document, path)),
    locateKey: (path) => at(keyOffset(document, path)),
  };
}

async function readBounded(path: string): Promise<string> {
  try {
    const { size } = await stat(path);
    if (size > MAX_YAML_BYTES) {
      throw new KitError(
        "E_CONFIG_TOO_LARGE",
        `${path} has ${size} bytes; at most ${MAX_YAML_BYTES} are read`,
      );
    }
    const bytes = await readFile(path);
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (error) {
    if (error instanceof KitError) throw error;
    if (error instanceof TypeError) throw syntaxError(`${path}:1:1: the file is not valid UTF-8`, error);
    const reason = isErrno(error) ? error.code : String(error);
    throw new KitError("E_CONFIG_NOT_FOUND", `cannot read ${path}: ${reason}`, { cause: error });
  }
}

function toValue(document: Document.Parsed, name: string): unknown {
  try {
    return document.toJS({ maxAliasCount: MAX_ALIASES });
  } catch (error) {
    throw syntaxError(`${name}:1:1: ${error instanceof Error ? error.message : String(error)}`, error);
  }
}

function syntaxError(message: string, cause: unknown): KitError {
  return new KitError("E_CONFIG_SYNTAX", message, { cause });
}

function firstLine(message: string): string {
  return (message.split("\n", 1)[0] ?? message).replace(/ at line \d+, column \d+:?$/, "");
}

/** Walks down as far as the path exists: a missing key is reported at the map that lacks it. */
function nodesAlong(document: Document.Parsed, path: YamlPath): Node[] {
  const nodes: Node[] = document.contents === null ? [] : [document.contents];
  for (let depth = 1; depth <= path.length; depth += 1) {
    const node: unknown = document.getIn(path.slice(0, depth), true);
    if (!isNode(node)) break;
    nodes.push(isAlias(node) ? (node.resolve(document) ?? node) : node);
  }
  return nodes;
}

function isNode(value: unknown): value is Node {
  return typeof value === "object" && value !== null && "range" in value;
}

function valueOffset(document: Document.Parsed, path: YamlPath): number {
  return nodesAlong(document, path).at(-1)?.range?.[0] ?? 0;
}

function keyOffset(document: Document.Parsed, path: YamlPath): number {
  const parent = nodesAlong(document, path.slice(0, -1)).at(-1);
  const wanted = path.at(-1);
  if (isMap(parent)) {
    for (const pair of parent.items) {
      if (isScalar(pair.key) && pair.key.value === wanted) return pair.key.range?.[0] ?? 0;
    }
  }
  return valueOffset(document, path);
}
