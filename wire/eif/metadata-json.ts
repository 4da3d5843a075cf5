/**
 * JSON as AWS's tool writes it into metadata: compact, keys of whoever builds the image sorted by their UTF-8 bytes.
 * Neither JavaScript's order of strings (UTF-16) nor that of an object's keys (numbers first) is that order.
 */
import { KitError } from "../../core/errors.ts";

/** Of objects and lists within one another: whoever prints them does so by recursion. */
const MAX_DEPTH = 64;
/** Of values and keys in all. Each may take some hundred bytes of memory, however short it is in the file. */
const MAX_VALUES = 500_000;

/** @throws E_EIF_METADATA for text with half a surrogate pair, which AWS's tools cannot read, and for what is too deep */
export function writeSortedJson(value: unknown, depth = 0): string {
  if (depth > MAX_DEPTH) throw tooDeep();
  const write = (each: unknown): string => writeSortedJson(each, depth + 1);
  if (typeof value === "string") return writeText(value);
  if (Array.isArray(value)) return `[${value.map(write).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const entries = Object.entries(value).filter(([, each]) => each !== undefined);
  return writeObject(
    entries.sort(([one], [other]) => Buffer.compare(Buffer.from(one), Buffer.from(other))),
    write,
  );
}

/** Keys in the order of the entries. */
export function writeObject<T>(
  entries: readonly (readonly [key: string, value: T])[],
  write: (value: T) => string,
): string {
  return `{${entries.map(([key, value]) => `${writeText(key)}:${write(value)}`).join(",")}}`;
}

export function writeText(text: string): string {
  if (!text.isWellFormed()) throw refuseMetadata("metadata: has text with half a surrogate pair");
  return JSON.stringify(text);
}

/** @throws E_EIF_METADATA for bytes that are no JSON, or whose values would take too much memory or stack */
export function parseBoundedJson(bytes: Uint8Array): unknown {
  checkBounds(bytes);
  try {
    // A mark of the byte order is no part of JSON.
    return JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch {
    throw refuseMetadata("metadata: is not JSON");
  }
}

const [QUOTE, ESCAPE] = [0x22, 0x5c];
/** What a byte outside of text does to the depth; those that are here also separate values. */
const STEPS: ReadonlyMap<number, number> = new Map(
  Object.entries({ "[": 1, "{": 1, "]": -1, "}": -1, ",": 0, ":": 0 }).map(([text, step]) => [
    text.charCodeAt(0),
    step,
  ]),
);

/** Before anything is allocated for a value. What is no JSON may pass. */
function checkBounds(bytes: Uint8Array): void {
  let [depth, values, inText] = [0, 0, false];
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at] ?? 0;
    if (byte === QUOTE) inText = !inText;
    else if (inText) at += byte === ESCAPE ? 1 : 0;
    else {
      const step = STEPS.get(byte);
      if (step === undefined) continue;
      depth += step;
      values += 1;
      if (depth > MAX_DEPTH) throw tooDeep();
      if (values > MAX_VALUES) throw refuseMetadata(`metadata: has more than ${MAX_VALUES} values`);
    }
  }
}

function tooDeep(): KitError {
  return refuseMetadata(`metadata: is deeper than ${MAX_DEPTH}`);
}

/** @param why begins with the place */
export function refuseMetadata(why: string): KitError {
  return new KitError("E_EIF_METADATA", `the image's ${why}`);
}
