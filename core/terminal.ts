/** How the command line speaks: data on stdout, everything else on stderr, colours and progress on a terminal only. */
import { styleText } from "node:util";

import { errorToJson, type KitError } from "./errors.ts";
import { toPrintable } from "./printable.ts";

type Style = Parameters<typeof styleText>[0];

export interface TerminalOptions {
  readonly stdout: NodeJS.WriteStream;
  readonly stderr: NodeJS.WriteStream;
  /** Off with --no-color and NO_COLOR. */
  readonly colours: boolean;
  readonly verbose: boolean;
}

export class Terminal {
  readonly #options: TerminalOptions;
  #hasProgress = false;

  constructor(options: TerminalOptions) {
    this.#options = options;
  }

  /** True where somebody looks at stdout. */
  get isInteractive(): boolean {
    return this.#options.stdout.isTTY;
  }

  get width(): number {
    return this.#options.stdout.columns ?? 120;
  }

  /** Data, with a newline. */
  print(text: string): void {
    this.#clearProgress();
    this.#options.stdout.write(`${text}\n`);
  }

  printJson(value: unknown): void {
    this.print(JSON.stringify(value, undefined, 2));
  }

  /** A remark for the operator. */
  note(text: string): void {
    this.#clearProgress();
    this.#options.stderr.write(`${text}\n`);
  }

  /** One line that the next replaces; nothing where stderr is no terminal, unless --verbose. */
  progress(step: string): void {
    if (this.#options.stderr.isTTY) {
      this.#options.stderr.write(`\r\u001B[2K${step.slice(0, (this.#options.stderr.columns ?? 80) - 1)}`);
      this.#hasProgress = true;
    } else if (this.#options.verbose) this.#options.stderr.write(`${step}\n`);
  }

  /** For stdout. */
  colour(style: Style, text: string): string {
    return this.#options.colours && this.#options.stdout.isTTY
      ? styleText(style, text, { validateStream: false })
      : text;
  }

  /** Messages quote what was refused, so they are made fit for a terminal too. */
  fail(error: KitError, json: boolean): void {
    if (json) {
      this.printJson({ error: errorToJson(error) });
      return;
    }
    this.#clearProgress();
    const { stderr, colours, verbose } = this.#options;
    const tint = (style: Style, text: string): string =>
      colours && stderr.isTTY ? styleText(style, text, { validateStream: false }) : text;
    stderr.write(
      `${tint("red", `error[${error.code}]`)}: ${toPrintable(error.message)}\n${tint("cyan", "hint")}: ${toPrintable(error.hint)}\n`,
    );
    if (verbose)
      for (let cause = error.cause; cause !== undefined; cause = causeOf(cause))
        stderr.write(`caused by: ${toPrintable(describe(cause))}\n`);
  }

  #clearProgress(): void {
    if (!this.#hasProgress) return;
    this.#options.stderr.write("\r\u001B[2K");
    this.#hasProgress = false;
  }
}

function describe(error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}` : JSON.stringify(error);
}

function causeOf(error: unknown): unknown {
  return error instanceof Error ? error.cause : undefined;
}
