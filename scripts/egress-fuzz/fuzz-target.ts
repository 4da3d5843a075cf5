import type { RandomSource } from "../vsock-fuzz/random-source.ts";

/** One case. Any error but a KitError, which the case looks after itself, is a failure. @returns what came of it */
export type FuzzCase = (random: RandomSource) => string | Promise<string>;
