import { EXIT, type ErrorEntry } from "./error-entry.ts";

export const ENCLAVE_ERRORS = {
  E_VSOCK_HANDSHAKE: {
    exit: EXIT.failure,
    meaning: "The other side of a hybrid vsock connection did not speak the handshake.",
    hint: "Connect to vsock.sock and send `CONNECT <port>` with a newline.",
  },
  E_INGRESS_PREFACE: {
    exit: EXIT.failure,
    meaning: "The other side of an ingress connection did not send the preface or its answer.",
    hint: "Both ends must be of the same release; look at the logs of the gateway.",
  },
  E_INIT_LINE: {
    exit: EXIT.failure,
    meaning: "Something other than init's one line came on the report port.",
    hint: "The image holds a foreign init; build it again.",
  },
  E_ENCLAVE_CONFIG: {
    exit: EXIT.enclaveFailed,
    meaning: "The measured configuration in the image is malformed or contradicts itself.",
    hint: "Build the image again with the release of the toolkit that runs it.",
  },
  E_ENCLAVE_SINGLE_USER: {
    exit: EXIT.environment,
    meaning: "The image wants several users, but only one uid can be had here.",
    hint: "Give the host's user a range in /etc/subuid, run as root, or set `local: { single_user: true }`.",
  },
  E_ENCLAVE_LIMITS: {
    exit: EXIT.environment,
    meaning: "A production image has limits that cannot be enforced on this machine.",
    hint: "Run it where cgroups can be had (as root with the local backend), or remove the limit.",
  },
  E_ENCLAVE_ISOLATION: {
    exit: EXIT.environment,
    meaning: "A production image has services that cannot be kept apart.",
    hint: "Give every service a user of its own that is not root.",
  },
  E_ENCLAVE_VSOCK: {
    exit: EXIT.environment,
    meaning: "The enclave has no vsock form that this release can use.",
    hint: "Run the image with the local backend.",
  },
  E_ENCLAVE_FRAME: {
    exit: EXIT.failure,
    meaning: "A message between supervisor and gateway is malformed or too large.",
    hint: "Both must be of the same release; the supervisor starts the gateway again.",
  },
  E_ENCLAVE_STOPPING: {
    exit: EXIT.conflict,
    meaning: "The enclave is being stopped, so nothing is started any more.",
    hint: "Wait for its end and start the enclave again.",
  },
  E_CONTROL_REQUEST: {
    exit: EXIT.usage,
    meaning: "A request to the control API is malformed.",
    hint: "Client and enclave must be of the same release.",
  },
  E_CONTROL_NOT_FOUND: {
    exit: EXIT.notFound,
    meaning: "The control API has no such route.",
    hint: "Client and enclave must be of the same release.",
  },
  E_CONTROL_BUSY: {
    exit: EXIT.resources,
    meaning: "Too many requests to the control API are in progress.",
    hint: "Close some of the clients that follow logs or events.",
  },
  E_CONTROL_FORBIDDEN: {
    exit: EXIT.unmetPolicy,
    meaning: "The measured configuration forbids this request.",
    hint: "In production the control API is closed, and logs leave the enclave only with `logs: { ship: true }`.",
  },
  E_CONTROL_CLOSED: {
    exit: EXIT.unmetPolicy,
    meaning: "The enclave runs in production mode, in which its control API is closed.",
    hint: "Use `mode: development` to look into an enclave; production tells only its state.",
  },
  E_CONTROL_GONE: {
    exit: EXIT.enclaveFailed,
    meaning: "The supervisor ended before it answered.",
    hint: "Look at `pipeline status` for how it ended; init starts it again.",
  },
  E_CONTROL_LOST: {
    exit: EXIT.enclaveFailed,
    meaning: "The connection to the enclave's control API broke off before everything had come.",
    hint: "See with `pipeline status` whether the enclave still runs, then try again.",
  },
  E_SERVICE_FAILED: {
    exit: EXIT.enclaveFailed,
    meaning: "A service did not come up when it was started.",
    hint: "`initctl status SERVICE` shows its reason and its last lines.",
  },
  E_EXEC_USER: {
    exit: EXIT.notFound,
    meaning: "The enclave has no user of that name.",
    hint: "Name a user of the image's /etc/passwd, or give a number.",
  },
  E_EXEC_UNKNOWN: {
    exit: EXIT.notFound,
    meaning: "The enclave has no exec session of that number.",
    hint: "Sessions are forgotten a minute after their end; make a new one.",
  },
  E_EXEC_STATE: {
    exit: EXIT.conflict,
    meaning: "A session cannot be started: it was before, or its streams are missing.",
    hint: "Make a new session; client and enclave must be of the same release.",
  },
  E_SERVICE_UNKNOWN: {
    exit: EXIT.notFound,
    meaning: "The enclave has no service of that name.",
    hint: "`pipeline status` lists the services.",
  },
  E_SERVICE_TRANSITION: {
    exit: EXIT.failure,
    meaning: "A service was about to make a change of state that its table forbids.",
    hint: "This is a fault of the supervisor: report the message.",
  },
  E_CGROUP_SETUP: {
    exit: EXIT.environment,
    meaning: "The cgroup of a service cannot be made.",
    hint: "The message has the kernel's reason; end what holds the cgroup and start the enclave again.",
  },
  E_CGROUP_LIMIT: {
    exit: EXIT.resources,
    meaning: "The kernel refuses a limit of a service.",
    hint: "EBUSY: the service uses more memory than the new limit, so stop it first. Else choose another limit.",
  },
  E_CGROUP_FILE: {
    exit: EXIT.environment,
    meaning: "A control file of a cgroup cannot be read or written.",
    hint: "Somebody else has changed or removed the enclave's cgroups; start the enclave again.",
  },
  E_CGROUP_FORMAT: {
    exit: EXIT.environment,
    meaning: "A control file of a cgroup holds what no kernel writes.",
    hint: "What is mounted at /sys/fs/cgroup is not a cgroup hierarchy, or it is one that this release does not know.",
  },
  E_CGROUP_KILL: {
    exit: EXIT.failure,
    meaning: "Processes of a service do not end even when they are killed.",
    hint: "They hang in the kernel: look at their state in /proc, and end the enclave.",
  },
  E_CGROUP_BUSY: {
    exit: EXIT.conflict,
    meaning: "A cgroup cannot be removed because it is in use.",
    hint: "End the processes that the message names, then remove the directory with rmdir.",
  },
  E_INGRESS_REFUSED: {
    exit: EXIT.failure,
    meaning: "The enclave does not forward connections to a port: not published, closed, or no room.",
    hint: "Publish the port in enclave.yaml and see that the service listens on it.",
  },
} as const satisfies Record<string, ErrorEntry>;
