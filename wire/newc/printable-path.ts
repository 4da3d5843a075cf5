/**
 * Bytes of a name as text for people. Different bytes are different text: what is not UTF-8, a control character, or
 * one that moves or hides text becomes `\xNN` byte by byte, and a backslash becomes two.
 */

// Controls, formats (direction marks among them), separators of lines and paragraphs; not letters of unknown scripts.
const HIDDEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\\]/u;
const ALL_HIDDEN = new RegExp(HIDDEN, "gu");

export function toPrintablePath(bytes: Uint8Array): string {
  const text = decodeUtf8(bytes);
  if (text === undefined) return printLossless(bytes);
  return HIDDEN.test(text) ? text.replaceAll(ALL_HIDDEN, escape) : text;
}

function escape(character: string): string {
  if (character === "\\") return "\\\\";
  return [...Buffer.from(character)].map(escapeByte).join("");
}

function escapeByte(byte: number): string {
  return `\\x${byte.toString(16).padStart(2, "0")}`;
}

/** Without UTF-8 throughout, every byte beyond ASCII is shown as a number. */
function printLossless(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => {
    if (byte === 0x5c) return "\\\\";
    return byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : escapeByte(byte);
  }).join("");
}

function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    if (error instanceof TypeError) return undefined;
    throw error;
  }
}
