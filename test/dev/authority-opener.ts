import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";

const FIXTURE = join(import.meta.dirname, "..", "fixtures", "dev", "authority-opener.ts");

/** Another process that opens authorities. */
export class AuthorityOpener implements AsyncDisposable {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: AsyncIterator<string>;
  readonly #closed: Promise<unknown>;

  private constructor(child: ChildProcessByStdio<Writable, Readable, null>) {
    this.#child = child;
    this.#closed = once(child, "close");
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  /** @param prelude commands of sh that the process begins with */
  static async start(prelude = ":"): Promise<AuthorityOpener> {
    const command = [`${prelude}; exec "$0" "$1"`, process.execPath, FIXTURE];
    const child = spawn("sh", ["-c", ...command], { stdio: ["pipe", "pipe", "inherit"] });
    const opener = new AuthorityOpener(child);
    const first = await opener.#line();
    if (first !== "ready") throw new Error(`the opener says ${first}`);
    return opener;
  }

  /** Asked at once, so that several work at the same time. */
  async open(directory: string): Promise<unknown> {
    this.#child.stdin.write(`${directory}\n`);
    return JSON.parse(await this.#line());
  }

  async #line(): Promise<string> {
    const { value, done } = await this.#lines.next();
    if (done === true) throw new Error("the opener is gone");
    return value;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.stdin.end();
    await this.#closed;
  }
}
