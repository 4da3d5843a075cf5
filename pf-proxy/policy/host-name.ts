/**
 * Host names in one canonical form, so that whoever compares, resolves or dials one means the same.
 *
 *   Api.Example.COM.   ->  api.example.com          case, and one final dot, mean nothing in DNS
 *   bücher.example     ->  xn--bcher-kva.example    IDNA, as URLs have it (UTS 46, not transitional)
 *
 * Text that two parsers might read in two ways is no name: a NUL ends it for C and not for JavaScript, `%` is decoded by
 * some, `a@b` and `a:80` are more than a host for URLs, IDNA drops some characters and turns others into dots or digits,
 * and C libraries take `1`, `0x7f.1` and `0177.0.0.1` for IPv4 addresses. All these are refused and never repaired.
 */
import { domainToASCII, domainToUnicode } from "node:url";

import { KitError } from "../../core/errors.ts";
import { quoteText } from "./quoted-text.ts";

export interface HostPattern {
  /** Canonical, with `*.` where it is a wildcard. */
  readonly text: string;
  readonly wildcard: boolean;
  /** Without `*.`; a wildcard covers what is below it, at any depth, and not the name itself. */
  readonly name: string;
}

/** RFC 1035 allows 255 bytes with the length of each label and the root. */
const MAX_NAME_BYTES = 253;
const MAX_LABEL_BYTES = 63;
/** The underscore is not for hosts (RFC 952), but service and bucket names have it. */
const LABEL = /^[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?$/;
/** WHATWG: a host whose last label is this is an IPv4 address, or malformed. */
const NUMBER = /^(?:[0-9]+|0x[0-9a-f]*)$/;
/** The Kelvin sign: the one character beside ASCII that normalising alone turns into an ASCII letter. */
const KELVIN = "\u212a";
const ASCII = /^[\0-\x7F]*$/; // oxlint-disable-line no-control-regex -- NUL is ASCII, and is refused by LABEL

/** Lower case, ASCII, without the final dot; what it gives is canonical itself. @throws E_EGRESS_NAME */
export function canonicalHostName(text: string): string {
  if (text.length > MAX_NAME_BYTES + 1) throw refuse(text, `it has more than ${MAX_NAME_BYTES} bytes`);
  const ascii = ASCII.test(text) ? text.toLowerCase() : toAscii(text);
  const name = ascii.endsWith(".") ? ascii.slice(0, -1) : ascii;
  const problem = findProblem(name);
  if (problem !== undefined) throw refuse(text, problem);
  return name;
}

/** Whether canonicalHostName would give back the same. */
export function isCanonicalHostName(name: string): boolean {
  return findProblem(name) === undefined;
}

/** A host name, or `*.` and a host name; `*` stands nowhere else, nor alone. @throws E_EGRESS_NAME */
export function parseHostPattern(text: string): HostPattern {
  const wildcard = text.startsWith("*.");
  const below = wildcard ? text.slice(2) : text;
  if (below.includes("*")) throw refuse(text, "a wildcard is `*.` before a name");
  const name = canonicalHostName(below);
  return { text: wildcard ? `*.${name}` : name, wildcard, name };
}

/** @returns why a text is not a canonical name; undefined if it is one */
function findProblem(name: string): string | undefined {
  if (name === "") return "it is empty";
  if (name.length > MAX_NAME_BYTES) return `it has more than ${MAX_NAME_BYTES} bytes`;
  const labels = name.split(".");
  for (const label of labels) {
    if (label === "") return "a label is empty";
    if (label.length > MAX_LABEL_BYTES) return `a label has more than ${MAX_LABEL_BYTES} bytes`;
    if (!LABEL.test(label))
      return "labels have letters, digits, hyphens and underscores, and no hyphen at an end";
  }
  if (NUMBER.test(labels.at(-1) ?? "")) return "programs could take it for an address";
  return name.includes("xn--") ? findIdnaProblem(name, labels) : undefined;
}

/** A label that claims to be IDNA and is not means something else to whoever decodes it. */
function findIdnaProblem(name: string, labels: readonly string[]): string | undefined {
  if (!labels.some((label) => label.startsWith("xn--"))) return undefined;
  const decoded = domainToUnicode(name);
  const isFaithful =
    domainToASCII(decoded) === name && decoded.split(".").every((label) => !/^(?:xn--|-)|-$/.test(label));
  return isFaithful ? undefined : "a label that begins with xn-- is not IDNA";
}

/** Only what comes back as it was: characters that IDNA drops or turns into others are refused. */
function toAscii(text: string): string {
  const ascii = domainToASCII(text);
  if (ascii === "" || text.includes(KELVIN) || domainToUnicode(ascii) !== text.normalize("NFC").toLowerCase())
    throw refuse(text, "it has characters that IDNA refuses, drops or replaces");
  return ascii;
}

function refuse(text: string, why: string): KitError {
  return new KitError("E_EGRESS_NAME", `${quoteText(text)} is no host name: ${why}`);
}
