/**
 * Records of a pax extended header: `<length> <key>=<value>\n`, where the decimal length counts the whole record. The
 * length and the newline must agree; values are bytes.
 */
import { decodeTarText, tarError } from "./tar-header.ts";

const MAX_RECORDS = 1024;

/** @throws E_IMAGE_TAR */
export function decodePaxRecords(bytes: Buffer, where: string): Map<string, Buffer> {
  const records = new Map<string, Buffer>();
  let offset = 0;
  while (offset < bytes.length) {
    if (records.size >= MAX_RECORDS)
      throw tarError(where, `a pax header has more than ${MAX_RECORDS} records`);
    const space = bytes.indexOf(0x20, offset);
    const digits = space < 0 ? "" : bytes.toString("latin1", offset, space);
    const end = offset + Number(digits);
    if (!/^[1-9][0-9]{0,7}$/.test(digits) || end > bytes.length || bytes[end - 1] !== 0x0a) {
      throw tarError(where, "a record of a pax header has a wrong length");
    }
    const equals = bytes.indexOf(0x3d, space);
    if (equals < 0 || equals >= end) throw tarError(where, "a record of a pax header has no value");
    const key = decodeTarText(bytes.subarray(space + 1, equals), where);
    records.set(key, bytes.subarray(equals + 1, end - 1));
    offset = end;
  }
  return records;
}
