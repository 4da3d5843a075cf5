/** The console of an enclave, which the hypervisor shows in debug mode only. */
import type { ChildProcess } from "node:child_process";
import { PassThrough, type Readable } from "node:stream";

import type { NitroCli } from "./nitro-cli.ts";
import { firstLines } from "./nitro-errors.ts";

const ABSENT = "there is no console outside debug mode\n";
const LAST_LINES = 20;
const MAX_TAIL_CHARACTERS = 16_384;

export class NitroConsole implements Disposable {
  readonly output: Readable;
  readonly #input = new PassThrough();
  readonly #debug: boolean;
  #child: ChildProcess | undefined;
  #tail = "";

  constructor(debug: boolean) {
    this.#debug = debug;
    this.output = this.#input;
    this.#input.on("error", () => undefined);
    if (!debug) this.#input.end(ABSENT);
  }

  /** What was printed last; empty outside debug mode. */
  get lastLines(): readonly string[] {
    const lines = this.#tail.split("\n").slice(-LAST_LINES - 1);
    return lines.map((line) => firstLines(line, 1)).filter((line) => line !== "");
  }

  /** Follows the console of a running enclave; the output ends with it. */
  follow(cli: NitroCli, id: string): void {
    if (!this.#debug) return;
    const child = cli.openConsole(id);
    this.#child = child;
    child.once("error", (error) => this.note(`the console cannot be followed: ${error.message}`));
    for (const stream of [child.stdout, child.stderr])
      stream?.on("data", (chunk: Buffer) => this.#print(chunk)).on("error", () => undefined);
    child.once("close", () => this.#input.end());
  }

  /** A line of ours. */
  note(line: string): void {
    this.#print(Buffer.from(`nitro: ${line}\n`));
  }

  [Symbol.dispose](): void {
    this.#child?.kill("SIGKILL");
    if (!this.#input.writableEnded) this.#input.end();
  }

  /** A console that nobody reads does not stop anything: what does not fit is dropped. */
  #print(chunk: Buffer): void {
    this.#tail = (this.#tail + chunk.toString("latin1")).slice(-MAX_TAIL_CHARACTERS);
    if (!this.#input.writableEnded && !this.#input.writableNeedDrain) this.#input.write(chunk);
  }
}
