// What the form says, as the verifier's policy. Whatever cannot be read is an error that names the field.
import { AWS_ROOT_SHA256 } from "../../attest/browser-entry.ts";

const MAX_DOCUMENT_BYTES = 64 * 1024;
const HEX = /^(?:[0-9a-f]{2})+$/i;

/** The file if there is one, else the pasted text. */
export async function readDocument(fields) {
  const file = fields.file.files[0];
  if (file !== undefined) {
    if (file.size > MAX_DOCUMENT_BYTES) throw new Error(`Document: ${file.size} bytes are too many`);
    return new Uint8Array(await file.arrayBuffer());
  }
  const text = fields.text.value.replaceAll(/\s/g, "");
  if (text === "") throw new Error("Document: drop, choose or paste one");
  return HEX.test(text) ? fromHex(text) : fromBase64(text);
}

export function readPolicy(fields) {
  const measurements = readRegisters(fields.registers.value.trim());
  const nonce = fields.nonce.value.trim();
  if (nonce !== "" && !HEX.test(nonce)) throw new Error("Nonce: write it in hex");
  return {
    roots: [readRoot(fields.root.value.trim().toLowerCase())],
    allowDebug: fields.debug.checked,
    ...(measurements === undefined ? {} : { measurements: [measurements] }),
    ...(nonce === "" ? {} : { nonce: fromHex(nonce) }),
  };
}

export function readTime(fields) {
  const text = fields.at.value.trim();
  if (text === "now") return Date.now();
  const time = Date.parse(text);
  if (Number.isNaN(time)) throw new Error("Time: write now, or a moment such as 2026-11-23T12:00:00Z");
  return time;
}

function readRoot(text) {
  if (text === "aws") return AWS_ROOT_SHA256;
  const digest = text.replace(/^sha256:/, "").replaceAll(":", "");
  if (/^[0-9a-f]{64}$/.test(digest)) return digest;
  throw new Error("Root: write aws, or the SHA-256 of a root certificate in hex");
}

/** `{"pcrs": {"PCR0": hex}}` as the toolkit prints it, `{"Measurements": {...}}` as nitro-cli does, or the registers alone. */
function readRegisters(text) {
  if (text === "") return undefined;
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Error("Registers: that is no JSON");
  }
  const registers = Object.entries(value?.pcrs ?? value?.Measurements ?? value ?? {}).flatMap(
    ([name, hex]) => {
      const index = /^(?:PCR)?([0-9]|[12][0-9]|3[01])$/.exec(name)?.[1];
      return index === undefined ? [] : [[Number(index), String(hex).toLowerCase()]];
    },
  );
  if (registers.length === 0) throw new Error('Registers: there are none; write {"PCR0": "hex"}');
  return new Map(registers);
}

function fromHex(text) {
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

function fromBase64(text) {
  try {
    const plain = text.replaceAll("-", "+").replaceAll("_", "/");
    return Uint8Array.from(atob(plain), (character) => character.codePointAt(0) ?? 0);
  } catch {
    throw new Error("Document: that is neither base64 nor hex");
  }
}
