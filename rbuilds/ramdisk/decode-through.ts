import { Readable, type Transform } from "node:stream";

import { KitError } from "../../core/errors.ts";

/**
 * What `decoder` makes of `input`. Both are closed at the end, also when the caller stops early.
 * @throws what `refuse` makes for data that the decoder refuses; failures of `input` as they are.
 */
export async function* decodeThrough(
  input: AsyncIterable<Uint8Array>,
  decoder: Transform,
  refuse: (why: string, cause: unknown) => Error,
): AsyncGenerator<Uint8Array> {
  const readable = Readable.from(input, { objectMode: false });
  let inputFailure: { readonly error: Error } | undefined;
  readable.once("error", (error) => {
    inputFailure = { error };
    decoder.destroy(error);
  });
  readable.pipe(decoder);
  try {
    for await (const chunk of decoder) {
      if (!(chunk instanceof Uint8Array)) throw new TypeError("a decoder gives bytes");
      yield chunk;
    }
  } catch (error) {
    if (inputFailure !== undefined || error instanceof KitError) throw error;
    throw refuse(
      `compressed data is damaged: ${error instanceof Error ? error.message : String(error)}`,
      error,
    );
  } finally {
    readable.destroy();
    decoder.destroy();
  }
}
