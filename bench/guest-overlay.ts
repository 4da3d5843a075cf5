/** Programs in the place of an image's supervisor: one more ramdisk behind the image's own; what comes later wins. */
import { appendFile, stat } from "node:fs/promises";

import { rolldown } from "rolldown";

import { RUNTIME } from "../wire/runtime-layout.ts";

const PROGRAM = "/opt/enclave/guest-program.mjs";

/** @param program TypeScript file that runs in the guest as root. @returns files for appendFiles */
export async function overlayProgram(program: string): Promise<Record<string, Buffer>> {
  const words = [RUNTIME.loader, "--library-path", RUNTIME.libraries, RUNTIME.node, PROGRAM];
  return {
    [`rootfs${RUNTIME.supervisorArgv}`]: Buffer.from(words.map((word) => `${word}\n`).join("")),
    [`rootfs${PROGRAM}`]: await bundle(program),
  };
}

async function bundle(program: string): Promise<Buffer> {
  await using built = await rolldown({ input: program, platform: "node", logLevel: "warn" });
  const { output } = await built.generate({ format: "esm", codeSplitting: false });
  return Buffer.from(output[0].code);
}

/** @param files by path in the ramdisk, all executable. */
export async function appendFiles(ramdisk: string, files: Readonly<Record<string, Buffer>>): Promise<void> {
  const { size } = await stat(ramdisk);
  // An archive begins at a multiple of four; zeros between archives are passed over.
  await appendFile(ramdisk, Buffer.alloc((4 - (size % 4)) % 4));
  const members = Object.entries(files).map(([path, data]) => member(path, data));
  await appendFile(ramdisk, Buffer.concat([...members, member("TRAILER!!!", Buffer.alloc(0))]));
}

/** A regular file of root's in a newc archive. */
function member(path: string, data: Buffer): Buffer {
  const name = Buffer.from(`${path}\0`);
  const fields = [0, 0o100755, 0, 0, 1, 0, data.length, 0, 0, 0, 0, name.length, 0];
  const digits = fields.map((field) => field.toString(16).padStart(8, "0")).join("");
  return Buffer.concat([pad(Buffer.concat([Buffer.from(`070701${digits}`), name])), pad(data)]);
}

function pad(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
}
