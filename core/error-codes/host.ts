import { EXIT, type ErrorEntry } from "./error-entry.ts";

export const HOST_ERRORS = {
  E_NATIVE_COMPILER: {
    exit: EXIT.environment,
    meaning: "There is no C compiler, or no static C library, to build the native programs with.",
    hint: "Install the Debian packages gcc and libc6-dev (`apt-get install gcc libc6-dev`) and run `npm ci` again.",
  },
  E_NATIVE_BUILD: {
    exit: EXIT.failure,
    meaning: "The C compiler refused a source file of the native programs.",
    hint: "Report the message with the output of `cc --version`.",
  },
} as const satisfies Record<string, ErrorEntry>;
