import { EXIT, type ErrorEntry } from "./error-entry.ts";

export const IMAGE_ERRORS = {
  E_IMAGE_APT_MISSING: {
    exit: EXIT.environment,
    meaning: "A Debian base was asked for on a machine without apt.",
    hint: "Build on Debian or Ubuntu, or use `oci:` or `directory:` as the base of the image.",
  },
  E_IMAGE_APT_UPDATE: {
    exit: EXIT.environment,
    meaning: "apt could not get the package lists of the system's sources.",
    hint: "Check the network, the proxy and /etc/apt/sources.list.d.",
  },
  E_IMAGE_APT_RESOLVE: {
    exit: EXIT.usage,
    meaning: "apt cannot install the packages of the image together.",
    hint: "Read apt's explanation and change the list under `debian:`.",
  },
  E_IMAGE_APT_FETCH: {
    exit: EXIT.environment,
    meaning: "A package could not be downloaded, or what arrived is not what the lists promise.",
    hint: "Check the network and run the command again; packages already fetched are kept.",
  },
  E_IMAGE_APT_OUTPUT: {
    exit: EXIT.failure,
    meaning: "A program of apt or dpkg printed far more than it should.",
    hint: "Run the program by hand to see what it prints.",
  },
  E_IMAGE_PACKAGE_NAME: {
    exit: EXIT.usage,
    meaning: "A name under `debian:` is not a possible name of a Debian package.",
    hint: "Package names are lower case: letters, digits, plus, minus and full stop.",
  },
  E_IMAGE_PACKAGE_UNKNOWN: {
    exit: EXIT.usage,
    meaning: "The system's sources have no package of that name.",
    hint: "Correct the name, or add the source that has the package to /etc/apt/sources.list.d.",
  },
  E_IMAGE_PACKAGE_CONTENT: {
    exit: EXIT.failure,
    meaning: "A .deb cannot be unpacked, or lacks a file that every such package has.",
    hint: "Remove the .deb named from the cache and build again.",
  },
  E_IMAGE_ELF: {
    exit: EXIT.failure,
    meaning: "A program or library is not a well-formed ELF file.",
    hint: "Remove or replace the file named.",
  },
  E_IMAGE_RUNTIME: {
    exit: EXIT.failure,
    meaning:
      "The runtime of the enclave cannot be put together: a program or one of its libraries is missing.",
    hint: "Build the toolkit again with `npm ci`, then build the image.",
  },
  E_LOCK_INVALID: {
    exit: EXIT.usage,
    meaning: "The lock of packages is malformed.",
    hint: "Remove the lock; the next build resolves the packages anew.",
  },
  E_LOCK_UNAVAILABLE: {
    exit: EXIT.environment,
    meaning: "The mirrors no longer have a version of a package that the lock names.",
    hint: "Name a folder with the old .deb or an archive that keeps old versions under image.sources, or take over today's version with `pipeline lock --update`.",
  },
  E_LOCK_MISMATCH: {
    exit: EXIT.failure,
    meaning: "A package has other bytes than the lock says.",
    hint: "Do not use it before you know why: the same version must always have the same bytes.",
  },
  E_IMAGE_BLOB_TOO_LARGE: {
    exit: EXIT.usage,
    meaning: "A file of an image is larger than what is read.",
    hint: "Leave the file out of the image.",
  },
  E_IMAGE_BLOB_MISSING: {
    exit: EXIT.failure,
    meaning: "The cache lost the content of a file that an image needs.",
    hint: "Remove the cache directory named by --cache-dir and build again.",
  },
  E_IMAGE_PATH: {
    exit: EXIT.usage,
    meaning:
      "A path cannot be one of an image: not absolute, not normal, too long, or below something that is no directory.",
    hint: "Rename the file, or leave it out of the image.",
  },
  E_IMAGE_TOO_MANY_FILES: {
    exit: EXIT.usage,
    meaning: "An image, or a directory to copy into one, has too many files.",
    hint: "Leave out what the services do not need.",
  },
  E_IMAGE_LINK_LOOP: {
    exit: EXIT.usage,
    meaning: "Symbolic links of an image lead in a circle.",
    hint: "Remove one of the links named.",
  },
  E_IMAGE_MANIFEST: {
    exit: EXIT.failure,
    meaning: "A manifest in the cache is damaged.",
    hint: "Remove the cache directory named by --cache-dir and build again.",
  },
  E_IMAGE_TAR: {
    exit: EXIT.usage,
    meaning: "A tar archive is damaged, cut off, or of a form that is not taken.",
    hint: "Make the archive again; GNU tar's and the POSIX formats are understood.",
  },
  E_IMAGE_TAR_NAME: {
    exit: EXIT.usage,
    meaning: "A member of a tar archive has a name that leads outside or has no clear meaning.",
    hint: "Do not trust the archive; names must be relative and without `..`.",
  },
  E_IMAGE_TAR_DUPLICATE: {
    exit: EXIT.usage,
    meaning: "A tar archive holds the same path twice, so what it means depends on who reads it.",
    hint: "Make the archive again with every path once.",
  },
  E_IMAGE_TAR_LINK: {
    exit: EXIT.usage,
    meaning: "A hard link of a tar archive names a file that is not there.",
    hint: "Make the archive again; the linked file must come before the link.",
  },
  E_IMAGE_TAR_TOO_LARGE: {
    exit: EXIT.resources,
    meaning: "A tar archive is larger than the limit once decompressed, or grows out of all proportion.",
    hint: "Do not trust the archive unless you made it; split what is too large.",
  },
  E_IMAGE_COMPRESSION: {
    exit: EXIT.usage,
    meaning: "Compressed data is damaged or cut off.",
    hint: "Fetch or make the file again.",
  },
  E_IMAGE_SOURCE: {
    exit: EXIT.usage,
    meaning: "A file that should go into an image is of a kind that cannot, or cannot be read.",
    hint: "Remove it from what is copied, or correct its permissions.",
  },
  E_IMAGE_USER_UNKNOWN: {
    exit: EXIT.usage,
    meaning: "`user:` names a user or group that the image does not have.",
    hint: "Correct the name, or add the package that brings the user.",
  },
  E_IMAGE_TREE: {
    exit: EXIT.failure,
    meaning: "The files of an image cannot be written into the cache.",
    hint: "Look at the message; the cache can be moved with --cache-dir.",
  },
  E_IMAGE_OCI: {
    exit: EXIT.usage,
    meaning: "What `oci:` names is no OCI image, or a damaged one.",
    hint: "Use an OCI layout directory, a tar of one, or the output of `docker save`.",
  },
  E_IMAGE_OCI_PLATFORM: {
    exit: EXIT.usage,
    meaning: "The OCI image has nothing for this processor.",
    hint: "Fetch the image for linux on this machine's processor.",
  },
  E_IMAGE_OCI_DIGEST: {
    exit: EXIT.usage,
    meaning: "Content of an OCI image is not what its digest or size says.",
    hint: "Fetch the image again; do not use it as it is.",
  },
} as const satisfies Record<string, ErrorEntry>;
