/**
 * Version of a kernel from its x86 boot protocol header: "HdrS" at 0x202, protocol version at 0x206 (2.00 or newer), and
 * at 0x20e where the version's text lies, counted from 0x200. Source: Linux, Documentation/arch/x86/boot.rst.
 */
import { open } from "node:fs/promises";

const SETUP_BYTES = 0x8200;
const MAX_VERSION_BYTES = 256;

/** @returns undefined for a kernel that does not say; never throws for content. */
export async function readKernelVersion(
  path: string,
  { offset, sizeBytes }: { readonly offset: number; readonly sizeBytes: number },
): Promise<string | undefined> {
  await using file = await open(path);
  const setup = Buffer.alloc(Math.min(SETUP_BYTES, sizeBytes));
  const { bytesRead } = await file.read(setup, 0, setup.length, offset);
  if (bytesRead < 0x210 || setup.toString("latin1", 0x202, 0x206) !== "HdrS") return undefined;
  if (setup.readUInt16LE(0x206) < 0x200) return undefined;
  const pointer = setup.readUInt16LE(0x20e);
  if (pointer === 0) return undefined;
  const text = setup.subarray(0x200 + pointer, Math.min(bytesRead, 0x200 + pointer + MAX_VERSION_BYTES));
  const end = text.indexOf(0);
  return end <= 0 ? undefined : text.toString("latin1", 0, end).split(" ")[0];
}
