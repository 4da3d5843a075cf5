/**
 * Runs a command inside the enclave: makes the session, opens its stream, carries bytes both ways until the command has
 * ended, then asks how. The signal ends the command before it ends the wait.
 */
import { once } from "node:events";
import type { Socket } from "node:net";
import type { Readable, Writable } from "node:stream";

import { withDeadline } from "../core/deadline.ts";
import { KitError } from "../core/errors.ts";
import type { ExecRequest, ExecStatus } from "../wire/control.ts";
import type { TerminalSize } from "../wire/session-frames.ts";
import type { ControlClient } from "./control-client.ts";
import { explainFailure } from "./control-request.ts";
import { ExecFrameDecoder } from "./exec-frames.ts";

/** What a command gets to end after SIGTERM, then after SIGKILL, when the caller has had enough of it. */
const END_TIMEOUT_MS = 2_000;

export interface ExecStreams {
  /** Absent: the command's input is empty. */
  readonly stdin?: Readable;
  readonly stdout: Writable;
  /** A terminal has one stream: stdout gets it. */
  readonly stderr: Writable;
}

export interface ExecOptions extends ExecStreams {
  /** Of the terminal, when it starts. */
  readonly size?: TerminalSize;
  /** Calls the listener for every later size, until disposed. */
  readonly onResize?: (listener: (size: TerminalSize) => void) => Disposable;
  readonly signal: AbortSignal;
}

/** How the command ended. @throws E_CONTROL_LOST if the stream broke off; the signal's reason; the enclave's refusal */
export async function runExec(
  client: ControlClient,
  request: ExecRequest,
  options: ExecOptions,
): Promise<ExecStatus> {
  const { signal } = options;
  const { id } = await client.createExec(request, signal);
  const socket = await client.startExec(id, options.size, signal);
  using _socket = { [Symbol.dispose]: () => socket.destroy() };
  // Sizes are of no use any more when they come late: one that fails is left out.
  using _sizes = options.onResize?.(
    (size) => void client.resizeExec(id, size, signal).catch(() => undefined),
  );
  try {
    await carryStreams(socket, request.tty === true, options);
    return await awaitEnd(client, id, signal);
  } catch (error) {
    if (!signal.aborted) throw error;
    await endCommand(client, id);
    throw signal.reason;
  }
}

async function carryStreams(socket: Socket, isTerminal: boolean, options: ExecOptions): Promise<void> {
  const { stdin, stdout, signal } = options;
  using _input = stdin === undefined ? undefined : new InputPump(stdin, socket, isTerminal);
  if (stdin === undefined && !isTerminal) socket.end();
  if (!isTerminal) return await copyFrames(socket, options, signal);
  await readUntilEnd(socket, signal, async (chunk) => await writeAll(stdout, chunk));
}

/** Copies what is printed until the other side ends the connection. @throws E_CONTROL_LOST, E_HOST_CONTROL */
export async function copyFrames(
  socket: Socket,
  streams: Pick<ExecStreams, "stdout" | "stderr">,
  signal: AbortSignal,
): Promise<void> {
  const decoder = new ExecFrameDecoder();
  await readUntilEnd(socket, signal, async (chunk) => {
    for (const { stream, bytes } of decoder.push(chunk)) await writeAll(streams[stream], bytes);
  });
  if (!decoder.isAtBoundary) throw new KitError("E_CONTROL_LOST", "the output broke off within a frame");
}

async function readUntilEnd(
  socket: Socket,
  signal: AbortSignal,
  use: (chunk: Uint8Array) => Promise<void>,
): Promise<void> {
  const stop = (): void => void socket.destroy();
  signal.addEventListener("abort", stop, { once: true });
  try {
    signal.throwIfAborted();
    for await (const chunk of socket.iterator({ destroyOnReturn: false })) await use(chunk);
  } catch (error) {
    throw explainFailure("output stream", error);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

async function writeAll(output: Writable, bytes: Uint8Array): Promise<void> {
  if (!output.write(bytes)) await once(output, "drain");
}

/** The stream ends when the command has ended; its status may be a moment behind. */
async function awaitEnd(client: ControlClient, id: number, signal: AbortSignal): Promise<ExecStatus> {
  const status = await client.waitExec(id, signal);
  if (status.state === "ended") return status;
  throw new KitError("E_CONTROL_LOST", "the output ended before the command did");
}

/** With deadlines of its own: the caller's signal has aborted. What cannot be told any more is left to the enclave. */
async function endCommand(client: ControlClient, id: number): Promise<void> {
  for (const name of ["SIGTERM", "SIGKILL"]) {
    const deadline = withDeadline(undefined, END_TIMEOUT_MS);
    try {
      await client.signalExec(id, name, deadline);
      if ((await client.waitExec(id, deadline)).state === "ended") return;
    } catch {
      if (!deadline.aborted) return; // it has ended, or nobody is there to be told
    }
  }
}

/** From standard input to the connection, held back when the connection is full; its end is the input's end. */
class InputPump implements Disposable {
  readonly #input: Readable;
  readonly #socket: Socket;
  readonly #isTerminal: boolean;

  constructor(input: Readable, socket: Socket, isTerminal: boolean) {
    this.#input = input;
    this.#socket = socket;
    this.#isTerminal = isTerminal;
    input.on("data", this.#onData).on("end", this.#onEnd).on("error", this.#onEnd);
    socket.on("drain", this.#onDrain);
    if (input.readableEnded) this.#onEnd();
  }

  [Symbol.dispose](): void {
    this.#input.off("data", this.#onData).off("end", this.#onEnd).off("error", this.#onEnd).pause();
    this.#socket.off("drain", this.#onDrain);
  }

  readonly #onData = (chunk: Uint8Array | string): void => {
    if (this.#socket.writable && !this.#socket.write(chunk)) this.#input.pause();
  };
  readonly #onDrain = (): void => void this.#input.resume();
  /** A terminal has no end of input but the character for it: to close its connection would hang it up. */
  readonly #onEnd = (): void => {
    if (!this.#isTerminal) this.#socket.end();
  };
}
