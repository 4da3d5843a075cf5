import { EXIT, type ErrorEntry } from "./error-entry.ts";

/** Of the local store of enclave images. */
export const STORE_ERRORS = {
  E_STORE_REFERENCE: {
    exit: EXIT.usage,
    meaning: "What should name an image is no name, no name with a tag, and no digest.",
    hint: "Write NAME, NAME:TAG, sha256:DIGEST or at least six digits of a digest; names are lower-case.",
  },
  E_STORE_NOT_FOUND: {
    exit: EXIT.notFound,
    meaning: "The store has no image of that name or digest.",
    hint: "`pipeline images` shows all.",
  },
  E_STORE_AMBIGUOUS: {
    exit: EXIT.usage,
    meaning: "The digest of more than one image begins so.",
    hint: "Give more digits of it; `pipeline images --no-trunc` shows all.",
  },
  E_STORE_SEVERAL_TAGS: {
    exit: EXIT.conflict,
    meaning: "An image that is to be removed by its digest has several tags.",
    hint: "Remove the tags one by one, or all with the image by --force.",
  },
  E_STORE_DAMAGED: {
    exit: EXIT.failure,
    meaning: "A file of the store is not what the store wrote, or is missing.",
    hint: "Remove the image or the tag with `pipeline rmi --force`, and build, load or tag it again.",
  },
  E_STORE_DIGEST: {
    exit: EXIT.usage,
    meaning: "An image or a part of an archive is not what its digest or size says.",
    hint: "Get the file again; do not use it as it is.",
  },
  E_STORE_ARCHIVE: {
    exit: EXIT.usage,
    meaning:
      "What is to be loaded is no archive of enclave images, is damaged or cut off, or has too much in it.",
    hint: "Make it again with `pipeline save`; it is an uncompressed tar.",
  },
  E_STORE_FILE: {
    exit: EXIT.notFound,
    meaning: "A file to take an image from, or to save one to, cannot be opened, read or written.",
    hint: "Look at the path, and at the permissions of the file and of its directory.",
  },
  E_STORE_ACCESS: {
    exit: EXIT.environment,
    meaning: "The system does not allow using the directory of the store.",
    hint: "Look at its permissions and at its file system, or choose another place with --state-dir.",
  },
  E_STORE_BUSY: {
    exit: EXIT.conflict,
    meaning: "Another command holds the store and does not let go of it.",
    hint: "Wait until it is done, or end it.",
  },
} as const satisfies Record<string, ErrorEntry>;
