import { EXIT, type ErrorEntry } from "./error-entry.ts";

/** Of the ramdisks of enclave images. */
export const RAMDISK_ERRORS = {
  E_RAMDISK_FILE_TOO_LARGE: {
    exit: EXIT.usage,
    meaning: "A file of an image has 4 GiB or more, which a ramdisk cannot say.",
    hint: "Split the file, or let the service fetch it at run time.",
  },
  E_RAMDISK_XATTR: {
    exit: EXIT.usage,
    meaning: "A file of an image has an extended attribute, which a ramdisk cannot carry.",
    hint: "Remove the attribute; a service gets capabilities from `cap_add:`, not from its file.",
  },
  E_RAMDISK_PATH: {
    exit: EXIT.usage,
    meaning: "A path of an image, or what a symbolic link says, cannot be put into a ramdisk.",
    hint: "Shorten or rename it: with `rootfs` before it, a path has at most 4095 bytes of UTF-8.",
  },
  E_RAMDISK_MODULE: {
    exit: EXIT.usage,
    meaning: "A kernel module for the ramdisk has an impossible name, or there are too many.",
    hint: "Names have letters, digits, `_` and `-`; at most 100 modules are loaded at boot.",
  },
  E_RAMDISK_INVALID: {
    exit: EXIT.usage,
    meaning: "A ramdisk of an image is damaged, cut off, or not of a form that is taken.",
    hint: "Get or build the image again; ramdisks are newc archives, plain or as gzip or zstd.",
  },
  E_RAMDISK_LIMIT: {
    exit: EXIT.resources,
    meaning: "A ramdisk of an image has more files or bytes than are read.",
    hint: "Do not trust the image unless you made it.",
  },
} as const satisfies Record<string, ErrorEntry>;
