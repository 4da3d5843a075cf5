/** Why a virtual machine ended, from what is seen outside: QEMU's status, its own words, the last lines on the console. */
import { KitError } from "../../../core/errors.ts";
import type { MachineExit } from "../backend.ts";

const LAST_LINES = 20;
const MAX_LINE_CHARACTERS = 300;
/** Lines that are kept to look for reasons. */
const MAX_KEPT_LINES = 200;

/** The last lines of a console, as far as a reason is looked for in them. */
export class ConsoleTail {
  readonly #lines: string[] = [];
  #rest = "";

  add(chunk: Buffer): void {
    const lines = (this.#rest + chunk.toString("latin1")).split("\n");
    this.#rest = (lines.pop() ?? "").slice(-MAX_LINE_CHARACTERS);
    for (const line of lines) this.#lines.push(line.slice(0, MAX_LINE_CHARACTERS).replace(/\r+$/, ""));
    this.#lines.splice(0, this.#lines.length - MAX_KEPT_LINES);
  }

  get lines(): readonly string[] {
    return this.#rest === "" ? this.#lines : [...this.#lines, this.#rest];
  }
}

export interface EndFacts {
  /** Of QEMU's process. */
  readonly status: number | null;
  readonly signal: string | null;
  readonly console: readonly string[];
  /** Why we killed it ourselves. */
  readonly killedFor: KitError | undefined;
  /** We were asked to end it. */
  readonly stopAsked: boolean;
  readonly memoryMib: number;
}

/** A guest that restarts is one that ended: QEMU then leaves with status 0, whatever the reason. */
export function explainEnd(facts: EndFacts): MachineExit {
  const { status, signal } = facts;
  const error = facts.killedFor ?? findFault(facts);
  return { status, signal, ...(error === undefined ? {} : { error }) };
}

function findFault(facts: EndFacts): KitError | undefined {
  const { status, stopAsked, console } = facts;
  const details = { lastLines: console.slice(-LAST_LINES) };
  // Whoever runs in the enclave may print what it likes later.
  const firstOfInit = console.findIndex((line) => line.includes("Run /init as init process"));
  const ofKernel = firstOfInit === -1 ? console : console.slice(0, firstOfInit);
  const outOfMemory = ofKernel.find((line) => OUT_OF_MEMORY.test(line));
  if (outOfMemory !== undefined) {
    const message = `the enclave ran out of memory at boot with ${facts.memoryMib} MiB: ${withoutTime(outOfMemory)}`;
    return new KitError("E_QEMU_MEMORY", message, { details });
  }
  const panic = console.map((line) => PANIC.exec(line)?.[1]).find((found) => found !== undefined);
  if (panic !== undefined) return new KitError("E_QEMU_PANIC", `kernel panic: ${panic}`, { details });
  if (stopAsked) return undefined;
  const killer = facts.signal ?? (status !== null && status > 128 ? SIGNALS[status - 128] : undefined);
  if (killer !== undefined) return new KitError("E_QEMU_KILLED", `QEMU was killed by ${killer}`, { details });
  if (status === 0) return new KitError("E_QEMU_ENDED", "the machine ended early", { details });
  const words = console.findLast((line) => line.trim() !== "") ?? "it said nothing";
  return new KitError("E_QEMU_FAILED", `QEMU ended with status ${status ?? -1}: ${words}`, { details });
}

const OUT_OF_MEMORY =
  /Initramfs unpacking failed: write error|System is deadlocked on memory|Out of memory and no killable/;
const PANIC = /Kernel panic - not syncing: (.+)/;
const SIGNALS: Readonly<Record<number, string>> = {
  6: "SIGABRT",
  9: "SIGKILL",
  11: "SIGSEGV",
  15: "SIGTERM",
};

/** A line of the kernel's log begins with its seconds. */
function withoutTime(line: string): string {
  return line.replace(/^\[[ .\d]+\] /, "");
}
