/** Streams over descriptors that were handed down: sockets and pipes without blocking a thread, files as files. */
import { createReadStream, createWriteStream, fstat } from "node:fs";
import { Socket } from "node:net";
import type { Readable, Writable } from "node:stream";
import { promisify } from "node:util";

const READ_BYTES = 512 * 1024;

export async function openInputDescriptor(fd: number): Promise<Readable> {
  if (await isStream(fd)) return new Socket({ fd, readable: true, writable: false });
  return createReadStream("", { fd, highWaterMark: READ_BYTES });
}

export async function openOutputDescriptor(fd: number): Promise<Writable> {
  if (await isStream(fd)) return new Socket({ fd, readable: false, writable: true });
  return createWriteStream("", { fd });
}

async function isStream(fd: number): Promise<boolean> {
  const info = await promisify(fstat)(fd);
  return info.isSocket() || info.isFIFO();
}
