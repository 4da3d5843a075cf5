/** One line of the policy: which system calls, under which arguments, are answered with which errno, and why. */
import type { CAPABILITIES } from "../../wire/capabilities.ts";
import type { SyscallName } from "./syscall-numbers.ts";

export type Capability = (typeof CAPABILITIES)[number];

/** The same numbers on both architectures. */
export const ERRNO = { EPERM: 1, ENOSYS: 38, EAFNOSUPPORT: 97 } as const;

/**
 * A test of the low 32 bits of an argument. It is meant for arguments that the kernel declares as int or narrower, or
 * masks to 32 bits itself: whatever a program puts into the high half changes neither what the kernel does nor this.
 */
export interface Condition {
  /** 0 to 5. */
  readonly argument: number;
  /** Bits that count; all 32 unless given. */
  readonly mask?: number;
  /** Holds if the masked argument is one of `values`, or is none of them. */
  readonly is: "oneOf" | "noneOf";
  readonly values: readonly number[];
}

export interface Rule {
  readonly calls: readonly SyscallName[];
  /** The rule applies if all of them hold; absent: always. */
  readonly conditions?: readonly Condition[];
  readonly answer: keyof typeof ERRNO;
  /** A service with one of these capabilities is free of the rule. */
  readonly unless: readonly Capability[];
  readonly why: string;
}
