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
  E_CONTROL_GONE: {
    exit: EXIT.enclaveFailed,
    meaning: "The supervisor ended before it answered.",
    hint: "Look at `pipeline status` for how it ended; init starts it again.",
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
  E_INGRESS_REFUSED: {
    exit: EXIT.failure,
    meaning: "The enclave does not forward connections to a port: not published, closed, or no room.",
    hint: "Publish the port in enclave.yaml and see that the service listens on it.",
  },
} as const satisfies Record<string, ErrorEntry>;
