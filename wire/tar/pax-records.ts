/**
 * Records of a pax extended header: `<length> <key>=<value>\n`, where the decimal length counts the whole record. The
 * length and the newline must agree; values are bytes.
 */
import { decodeTarText, type TarRefusal } from "./tar-header.ts";

const MAX_RECORDS = 1024;

/** @throws what `refuse` makes. */
export function decodePaxRecords(bytes: Buffer, refuse: TarRefusal): Map<string, Buffer> {
  const records = new Map<string, Buffer>();
  let offset = 0;
  while (offset < bytes.length) {
    if (records.size >= MAX_RECORDS) throw refuse(`a pax header has more than ${MAX_RECORDS} records`);
    const space = bytes.indexOf(0x20, offset);
    const digits = space < 0 ? "" : bytes.toString("latin1", offset, space);
    const end = offset + Number(digits);
    if (!/^[1-9][0-9]{0,7}$/.test(digits) || end > bytes.length || bytes[end - 1] !== 0x0a) {
      throw refuse("a record of a pax header has a wrong length");
    }
    const equals = bytes.indexOf(0x3d, space);
    if (equals < 0 || equals >= end) throw refuse("a record of a pax header has no value");
    const key = decodeTarText(bytes.subarray(space + 1, equals), refuse);
    records.set(key, bytes.subarray(equals + 1, end - 1));
    offset = end;
  }
  return records;
}

/** The inverse. Keys hold no "=". */
export function encodePaxRecords(records: ReadonlyMap<string, string>): Buffer {
  return Buffer.from([...records].map(([key, value]) => paxRecord(key, value)).join(""));
}

function paxRecord(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`;
  const restBytes = Buffer.byteLength(rest);
  // The length counts its own digits, and one more digit may be needed for that.
  const guess = restBytes + String(restBytes).length;
  return `${restBytes + String(guess).length}${rest}`;
}

const MAX_SECONDS_DIGITS = 12;
const NANOSECONDS = 1_000_000_000n;

/** `[-]SECONDS[.FRACTION]` in nanoseconds, what is finer cut off downwards; undefined if it says no time. */
export function decodePaxTime(value: Buffer): bigint | undefined {
  const match = /^(-?)([0-9]{1,16})(?:\.([0-9]{0,32}))?$/.exec(value.toString("latin1"));
  if (match === null) return undefined;
  const [, sign, seconds = "", fraction = ""] = match;
  if (seconds.replace(/^0+/, "").length > MAX_SECONDS_DIGITS) return undefined;
  const amount = BigInt(seconds) * NANOSECONDS + BigInt(fraction.slice(0, 9).padEnd(9, "0"));
  if (sign === "") return amount;
  return /[1-9]/.test(fraction.slice(9)) ? -amount - 1n : -amount;
}

export function encodePaxTime(nanoseconds: bigint): string {
  const amount = nanoseconds < 0n ? -nanoseconds : nanoseconds;
  const fraction = String(amount % NANOSECONDS)
    .padStart(9, "0")
    .replace(/0+$/, "");
  const sign = nanoseconds < 0n ? "-" : "";
  return `${sign}${amount / NANOSECONDS}${fraction === "" ? "" : `.${fraction}`}`;
}
