/**
 * Frames of an exec stream without a terminal, from the enclave to the client (wire/control.ts):
 *
 *   u8 stream (1 stdout, 2 stderr) | 3 zero bytes | u32 big-endian length, at most MAX_EXEC_FRAME_BYTES | bytes
 *
 * The bytes of a frame are handed over as they come: nothing is kept but a header that is not whole yet.
 */
import { KitError } from "../core/errors.ts";
import { EXEC_FRAME_HEADER_BYTES, EXEC_STREAM, MAX_EXEC_FRAME_BYTES } from "../wire/control.ts";

export type ExecOutputName = keyof typeof EXEC_STREAM;

export interface ExecOutput {
  readonly stream: ExecOutputName;
  /** At least one byte; a view of what was pushed. */
  readonly bytes: Uint8Array;
}

export class ExecFrameDecoder {
  readonly #header = Buffer.alloc(EXEC_FRAME_HEADER_BYTES);
  #headerBytes = 0;
  #stream: ExecOutputName = "stdout";
  /** Still to come of the frame whose header was read. */
  #remaining = 0;

  /** True where a stream may end: between two frames. */
  get isAtBoundary(): boolean {
    return this.#headerBytes === 0 && this.#remaining === 0;
  }

  /** @throws E_HOST_CONTROL for what is no frame; the stream is then of no further use. */
  push(chunk: Uint8Array): readonly ExecOutput[] {
    const outputs: ExecOutput[] = [];
    for (let at = 0; at < chunk.length;) {
      if (this.#remaining === 0) at += this.#readHeader(chunk.subarray(at));
      else {
        const bytes = chunk.subarray(at, at + this.#remaining);
        outputs.push({ stream: this.#stream, bytes });
        this.#remaining -= bytes.length;
        at += bytes.length;
      }
    }
    return outputs;
  }

  /** @returns how many bytes of `bytes` belong to the header. */
  #readHeader(bytes: Uint8Array): number {
    const piece = bytes.subarray(0, EXEC_FRAME_HEADER_BYTES - this.#headerBytes);
    this.#header.set(piece, this.#headerBytes);
    this.#headerBytes += piece.length;
    if (this.#headerBytes === EXEC_FRAME_HEADER_BYTES) {
      this.#headerBytes = 0;
      this.#beginFrame();
    }
    return piece.length;
  }

  #beginFrame(): void {
    const number = this.#header.readUInt8(0);
    if (number !== EXEC_STREAM.stdout && number !== EXEC_STREAM.stderr) throw refuse(`stream ${number}`);
    if (this.#header.readUIntBE(1, 3) !== 0) throw refuse("a header whose spare bytes are not zero");
    const length = this.#header.readUInt32BE(4);
    if (length > MAX_EXEC_FRAME_BYTES) throw refuse(`a length of ${length} bytes`);
    this.#stream = number === EXEC_STREAM.stdout ? "stdout" : "stderr";
    this.#remaining = length;
  }
}

function refuse(what: string): KitError {
  return new KitError("E_HOST_CONTROL", `exec stream: a frame with ${what}`);
}
