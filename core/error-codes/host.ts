import { EXIT, type ErrorEntry } from "./error-entry.ts";

export const HOST_ERRORS = {
  E_RELOAD_IMAGE: {
    exit: EXIT.conflict,
    meaning: "A reload would need other files than those of the image that runs.",
    hint: "Take the enclave down and up again, or undo the change of `image:` or of the files that it copies.",
  },
  E_BACKEND_LIMITS: {
    exit: EXIT.environment,
    meaning: "A production image cannot be kept within its resources on this machine.",
    hint: "Run as root on a machine with cgroups, or use `mode: development`.",
  },
  E_BACKEND_NSM: {
    exit: EXIT.environment,
    meaning:
      "A service wants /dev/nsm on a backend that cannot make one: it has no kernel of its own, so no CUSE.",
    hint: "Use --backend qemu, or let the service ask the attestation server instead.",
  },
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
  E_NATIVE_ADDON: {
    exit: EXIT.environment,
    meaning: "The toolkit's addon for Node cannot be loaded, or is not of this version.",
    hint: "Build it anew with `npm ci`, under the Node that the package brings.",
  },
  E_HOST_NAME_IN_USE: {
    exit: EXIT.conflict,
    meaning: "An enclave of that name is running.",
    hint: "Stop it with `pipeline down NAME`, or give this one another name with --name.",
  },
  E_HOST_NOT_FOUND: {
    exit: EXIT.notFound,
    meaning: "There is no enclave of that name.",
    hint: "`pipeline ps --all` lists the enclaves.",
  },
  E_HOST_NOT_RUNNING: {
    exit: EXIT.conflict,
    meaning: "The enclave does not run, so nothing in it can be asked or changed.",
    hint: "`pipeline status NAME` says how it ended; start it again with `pipeline up`.",
  },
  E_HOST_PORT_IN_USE: {
    exit: EXIT.conflict,
    meaning: "A port to publish is in use on this host.",
    hint: "Stop the program that listens there, or publish another port with --publish.",
  },
  E_HOST_PORT_REFUSED: {
    exit: EXIT.environment,
    meaning: "This host does not allow listening on an address or port to publish.",
    hint: "Use an address of this host and a port from 1024 on.",
  },
  E_PORT_NOT_PUBLISHED: {
    exit: EXIT.conflict,
    meaning: "The image does not publish the port, so the enclave would refuse every connection to it.",
    hint: "Add the port to `ports:` of enclave.yaml and start the enclave again: what is published is measured.",
  },
  E_PORT_UNKNOWN: {
    exit: EXIT.notFound,
    meaning: "No listener of the enclave has that address and port.",
    hint: "`pipeline ports NAME list` shows the listeners.",
  },
  E_PORT_LIMIT: {
    exit: EXIT.conflict,
    meaning: "The enclave takes no further listener.",
    hint: "Remove one with `pipeline ports NAME remove`.",
  },
  E_HOST_STATE_PATH: {
    exit: EXIT.usage,
    meaning: "The path of the state directory is too long for sockets in it.",
    hint: "Choose a shorter one with --state-dir.",
  },
  E_HOST_STATE_DAMAGED: {
    exit: EXIT.failure,
    meaning: "The record of an enclave is damaged.",
    hint: "Remove the enclave with `pipeline down NAME`.",
  },
  E_HOST_IMAGE_TOO_LARGE: {
    exit: EXIT.resources,
    meaning: "The files of the image do not fit into the memory of the enclave.",
    hint: "Give the enclave more memory, or leave files out of the image.",
  },
  E_HOST_SINGLE_UID: {
    exit: EXIT.environment,
    meaning: "A service has a user of its own, and this machine gives the caller one user id only.",
    hint: "Install newuidmap with a range in /etc/subuid, run as root, or set local: { single_user: true }.",
  },
  E_HOST_USER_NAMESPACES: {
    exit: EXIT.environment,
    meaning: "User namespaces are forbidden on this machine; the local backend needs them.",
    hint: "Allow them as the message says, or run as root; `pipeline doctor` shows the settings.",
  },
  E_HOST_SERVICE_FAILED: {
    exit: EXIT.enclaveFailed,
    meaning: "A service of the enclave failed before everything was healthy.",
    hint: "Its last lines are shown; `pipeline logs NAME` has all of them.",
  },
  E_HOST_ENCLAVE_FAILED: {
    exit: EXIT.enclaveFailed,
    meaning: "The enclave ended before everything was healthy.",
    hint: "The reason is in the message; `pipeline logs NAME` has the console and the services' output.",
  },
  E_HOST_RUNNER: {
    exit: EXIT.failure,
    meaning: "The process that owns an enclave did not start, or does not answer.",
    hint: "Look at runner.log in the state directory of the enclave.",
  },
  E_HOST_LINE: {
    exit: EXIT.failure,
    meaning: "The other side of a socket sent a line that is too long or not whole.",
    hint: "Look at the logs of the enclave; both sides must be of the same release.",
  },
  E_HOST_CONTROL: {
    exit: EXIT.failure,
    meaning: "The enclave's control API gave an answer that is not understood.",
    hint: "Host and image must be of the same release; build the image again with `pipeline up`.",
  },
  E_HOST_EXISTS: {
    exit: EXIT.conflict,
    meaning: "A file that would be written exists already.",
    hint: "Choose another directory, or remove the file.",
  },
  E_BACKEND_LAUNCH: {
    exit: EXIT.environment,
    meaning: "The backend could not start the machine.",
    hint: "`pipeline doctor` checks what the backend needs.",
  },
  E_BACKEND_CONNECT: {
    exit: EXIT.enclaveFailed,
    meaning: "The enclave does not listen on a vsock port.",
    hint: "It may still be starting or have ended; see `pipeline status NAME`.",
  },
} as const satisfies Record<string, ErrorEntry>;
