/**
 * How an image is named.
 *
 *   NAME[:TAG]        a tag; `latest` unless told. NAME has at most 128 characters, lower case, `/` between parts
 *   sha256:HEX        a digest, or the first six digits of one or more
 *   HEX               the same, where no tag has that name
 *
 * Nothing is called `sha256`, and no name is a whole digest, so that each form has one meaning.
 */
import { KitError } from "../../core/errors.ts";
import { quote } from "./store-refusals.ts";

const NAME = /^[a-z0-9]+(?:[._-][a-z0-9]+)*(?:\/[a-z0-9]+(?:[._-][a-z0-9]+)*)*$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
const DIGEST = /^[0-9a-f]{64}$/;
const PREFIX = /^[0-9a-f]{6,64}$/;
const MAX_NAME = 128;
const DIGEST_WORD = "sha256";
const DEFAULT_TAG = "latest";

export interface ImageTag {
  readonly name: string;
  readonly tag: string;
}

/** What a reference may mean; a tag goes before a digest. */
export interface ImageReference {
  readonly tag: ImageTag | undefined;
  /** Six to 64 lower-case hex digits. */
  readonly digestPrefix: string | undefined;
}

/** @throws E_STORE_REFERENCE */
export function parseReference(text: string): ImageReference {
  if (text.startsWith(`${DIGEST_WORD}:`)) {
    const digestPrefix = text.slice(DIGEST_WORD.length + 1);
    if (!PREFIX.test(digestPrefix)) throw refuse(text, "a digest has 6 to 64 lower-case hex digits");
    return { tag: undefined, digestPrefix };
  }
  const digestPrefix = PREFIX.test(text) ? text : undefined;
  if (DIGEST.test(text)) return { tag: undefined, digestPrefix };
  return { tag: parseTag(text), digestPrefix };
}

/** A name to give to an image. @throws E_STORE_REFERENCE */
export function parseTag(text: string): ImageTag {
  const colon = text.indexOf(":");
  const name = colon < 0 ? text : text.slice(0, colon);
  const tag = colon < 0 ? DEFAULT_TAG : text.slice(colon + 1);
  if (!isName(name)) {
    const form = "lower-case letters and digits with single . _ - between, and / between parts";
    throw refuse(text, `a name has ${form}, at most ${MAX_NAME} characters`);
  }
  if (name === DIGEST_WORD || DIGEST.test(name)) throw refuse(text, "that is how digests are written");
  if (!TAG.test(tag)) throw refuse(text, "a tag has letters, digits and . _ -, at most 128 characters");
  return { name, tag };
}

function isName(text: string): boolean {
  return text.length <= MAX_NAME && NAME.test(text);
}

export function renderTag({ name, tag }: ImageTag): string {
  return `${name}:${tag}`;
}

/** The hex digits of `sha256:HEX` with all 64, or undefined. */
export function parseDigest(text: string): string | undefined {
  const digest = text.slice(DIGEST_WORD.length + 1);
  return text.startsWith(`${DIGEST_WORD}:`) && DIGEST.test(digest) ? digest : undefined;
}

export function renderDigest(digest: string): string {
  return `${DIGEST_WORD}:${digest}`;
}

function refuse(text: string, why: string): KitError {
  return new KitError("E_STORE_REFERENCE", `${quote(text)} names no image: ${why}`);
}
