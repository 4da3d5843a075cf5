/** What the supervisor says to init over its pipe: lines of at most 512 bytes (native/init/notices.c). */
import { write } from "node:fs";
import { promisify } from "node:util";

import type { KitError } from "../core/errors.ts";

const MAX_NOTICE_BYTES = 512;
/** init calls it a hang after fifteen seconds. */
const ALIVE_INTERVAL_MS = 2_000;

export async function notifyReady(fd: number): Promise<void> {
  await promisify(write)(fd, Buffer.from("ready\n"));
}

/** Tells init every few seconds that this process does not hang (native/init/watchdog.c), until the signal aborts. */
export function keepTellingAlive(fd: number, signal: AbortSignal): void {
  let isWriting = false;
  const tell = (): void => {
    if (isWriting) return; // init does not read just now
    isWriting = true;
    write(fd, Buffer.from("alive\n"), () => (isWriting = false));
  };
  tell();
  const timer = setInterval(tell, ALIVE_INTERVAL_MS);
  signal.addEventListener("abort", () => clearInterval(timer), { once: true });
}

/** The supervisor will exit with SUPERVISOR_REFUSED_STATUS: it cannot run this image here. */
export async function notifyRefusal(fd: number, { code, message }: KitError): Promise<void> {
  const line = Buffer.from(`fail ${code} ${message.replaceAll(/[^\x20-\x7e]/g, "?")}`);
  await promisify(write)(fd, Buffer.concat([line.subarray(0, MAX_NOTICE_BYTES - 2), Buffer.from("\n")]));
}

/** EX_CONFIG: init does not start the supervisor again after it. */
export const SUPERVISOR_REFUSED_STATUS = 78;
