import { EXIT, type ErrorEntry } from "./error-entry.ts";

/** Of copies between host and enclave. */
export const ARCHIVE_ERRORS = {
  E_ARCHIVE_NOT_FOUND: {
    exit: EXIT.notFound,
    meaning: "The file or directory to copy does not exist.",
    hint: "Correct the path; inside an enclave, `pipeline exec NAME -- ls PATH` shows what is there.",
  },
  E_ARCHIVE_ENTRY: {
    exit: EXIT.usage,
    meaning:
      "Something to copy is not copied: a device, pipe or socket, or a name that is no UTF-8 or leads elsewhere.",
    hint: "Leave it out of what is copied; files, directories and links are taken.",
  },
  E_ARCHIVE_CHANGED: {
    exit: EXIT.failure,
    meaning: "A file changed while it was copied.",
    hint: "Copy it again when nothing writes to it; files of /proc and /sys cannot be copied, only read.",
  },
  E_ARCHIVE_FORMAT: {
    exit: EXIT.failure,
    meaning: "What arrived is no archive of one file or directory, or it is damaged or cut off.",
    hint: "Look for an earlier message of the sending side, and copy again.",
  },
  E_ARCHIVE_LIMIT: {
    exit: EXIT.resources,
    meaning: "A copy has more files, longer names, deeper directories or more bytes than are taken.",
    hint: "Copy parts of it one by one, or one archive file of it.",
  },
  E_ARCHIVE_DESTINATION: {
    exit: EXIT.conflict,
    meaning: "A copy has no place to go: no such directory, or something of another kind has the name.",
    hint: "Name an existing directory, or a new name in one; a directory never replaces a file, nor a file a directory.",
  },
  E_ARCHIVE_OWNER: {
    exit: EXIT.environment,
    meaning: "A copied file cannot be given to its owner.",
    hint: "An enclave with `single_user: true` has no other users; make the copy without owners.",
  },
  E_ARCHIVE_ACCESS: {
    exit: EXIT.environment,
    meaning: "The system does not allow reading or writing a file of a copy.",
    hint: "Look at the permissions of the file and of its directory, and whether its file system is read-only.",
  },
  E_ARCHIVE_STREAM: {
    exit: EXIT.failure,
    meaning: "The connection that carries a copy failed, or the other side of it ended.",
    hint: "The other side may have refused the copy and say why; else look at `pipeline status NAME`.",
  },
} as const satisfies Record<string, ErrorEntry>;
