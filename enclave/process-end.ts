/** How a process ended, in the words that status and events show. */
export interface ProcessEnd {
  /** `exited(1)`, `crashed(SIGSEGV)`, `syscall_denied`, a limit (run-account.ts) or `not executed: ENOENT ...`. */
  readonly reason: string;
  /** It ran and ended with status 0. */
  readonly clean: boolean;
}

/** The kernel sends SIGSYS to whoever makes a system call that its filter does not let pass. */
export function describeExit(code: number | null, signal: NodeJS.Signals | null): ProcessEnd {
  if (signal === "SIGSYS") return { reason: "syscall_denied", clean: false };
  if (signal !== null) return { reason: `crashed(${signal})`, clean: false };
  return { reason: `exited(${code ?? "?"})`, clean: code === 0 };
}

/**
 * @param line what service-exec wrote: `<step> <errno-name> <message>`. The step is left out where it is the exec
 * itself, which is what everybody expects to fail.
 */
export function describeNotExecuted(line: string): ProcessEnd {
  const [step = "", ...rest] = line.trim().split(" ");
  const words = step === "exec" ? rest : [...rest, `(${step})`];
  return { reason: `not executed: ${words.join(" ").slice(0, 400)}`, clean: false };
}
