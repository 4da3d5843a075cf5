import { EXIT, type ErrorEntry } from "./error-entry.ts";

/** What goes wrong while an enclave image is compiled and put together. */
export const BUILD_ERRORS = {
  E_TOOLCHAIN_SANDBOX: {
    exit: EXIT.environment,
    meaning: "The sandbox in which compilers run could not be started.",
    hint: "Run `pipeline doctor`; it needs the same namespaces as `pipeline up`.",
  },
  E_TOOLCHAIN_OUTPUT: {
    exit: EXIT.failure,
    meaning: "A compilation gave more bytes than any result of it can have.",
    hint: "Report this with the output of `pipeline --verbose build`.",
  },
  E_TOOLCHAIN_COMPILE: {
    exit: EXIT.failure,
    meaning: "A program or the kernel did not compile in the sandbox.",
    hint: "Read the last lines; if memory ran out, free some and run the command again.",
  },
  E_KERNEL_FEATURE: {
    exit: EXIT.usage,
    meaning: "The kernel's configuration lacks what an enclave needs.",
    hint: "Use `kernel: default`, or a kernel with these options; modules count if `modules:` names their folder.",
  },
  E_KERNEL_FILE: {
    exit: EXIT.usage,
    meaning: "A file of the kernel named in the YAML is missing or is not what it should be.",
    hint: "`blobs:` wants bzImage, bzImage.config and cmdline; `file:` wants a bzImage, `config:` its configuration.",
  },
  E_KERNEL_SOURCE: {
    exit: EXIT.environment,
    meaning: "The package with the kernel's source is not to be had or holds no source.",
    hint: "The package is linux-source-6.12 of Debian 12 (security updates) and later.",
  },
  E_KERNEL_FRAGMENT: {
    exit: EXIT.failure,
    meaning: "The kernel's source does not know an option that the toolkit asks for.",
    hint: "The lock names a source of another series; run `pipeline lock --update`.",
  },
  E_EIF_BASE: {
    exit: EXIT.usage,
    meaning: "`base: host` is for the local backend; an enclave image must hold all of its files.",
    hint: "Use `base: { debian: [packages] }`, `oci:` or `directory:`.",
  },
  E_LOCK_STALE: {
    exit: EXIT.usage,
    meaning: "The lock was made for other inputs than there are now.",
    hint: "Look at what changed; `pipeline lock --update` takes it over.",
  },
  E_LOCK_MISSING: {
    exit: EXIT.usage,
    meaning: "There is no enclave.lock next to the enclave.yaml.",
    hint: "`pipeline build` and `pipeline lock` make one; a proof needs the one that the image was built with.",
  },
  E_VERIFY_DIFFERENT: {
    exit: EXIT.failure,
    meaning: "The image is not what the project and its lock give.",
    hint: "The differences name ramdisk, file and attribute; build with the lock and sources that the image claims.",
  },
} as const satisfies Record<string, ErrorEntry>;
