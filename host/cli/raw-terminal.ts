/** The local terminal while a program elsewhere has it: keys go through as they are, Ctrl-C among them. */
import type { ReadStream, WriteStream } from "node:tty";

import type { TerminalSize } from "../../wire/session-frames.ts";

const DEFAULT_SIZE: TerminalSize = { rows: 24, columns: 80 };

/** Raw until disposed, or until the process ends in any way that it notices. */
export function enterRawMode(stdin: ReadStream): Disposable {
  const restore = (): void => {
    process.off("exit", restore);
    stdin.setRawMode(false);
  };
  process.on("exit", restore);
  stdin.setRawMode(true);
  return { [Symbol.dispose]: restore };
}

/** That of `stdout`; where it is no terminal, what terminals have had for long. */
export function readTerminalSize(stdout: WriteStream): TerminalSize {
  const { rows, columns } = stdout;
  return stdout.isTTY && rows > 0 && columns > 0 ? { rows, columns } : DEFAULT_SIZE;
}

/** For ExecOptions.onResize. */
export function watchTerminalSize(
  stdout: WriteStream,
): (listener: (size: TerminalSize) => void) => Disposable {
  return (listener) => {
    const tell = (): void => listener(readTerminalSize(stdout));
    stdout.on("resize", tell);
    return { [Symbol.dispose]: () => void stdout.off("resize", tell) };
  };
}
