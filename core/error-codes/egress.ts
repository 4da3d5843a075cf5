import { EXIT, type ErrorEntry } from "./error-entry.ts";

export const EGRESS_ERRORS = {
  E_EGRESS_RULE: {
    exit: EXIT.usage,
    meaning: "An egress rule is malformed or contradicts another key.",
    hint: "Write `{ host: NAME, port: PORT }` or `{ cidr: NETWORK, port: PORT }`; docs/egress.md has every key.",
  },
  E_EGRESS_NAME: {
    exit: EXIT.usage,
    meaning: "A text is no host name that a rule or a connection can have.",
    hint: "Write the name as DNS has it: labels of letters, digits and hyphens; addresses belong in `cidr`.",
  },
  E_EGRESS_DENIED: {
    exit: EXIT.failure,
    meaning: "The policy does not allow the connection.",
    hint: "`pipeline net NAME` shows the rule that would allow it.",
  },
  E_EGRESS_PREFACE: {
    exit: EXIT.failure,
    meaning: "The other side of an egress connection did not send the preface or its answer.",
    hint: "Both ends must be of the same release; look at the logs of the gateway and of the runner.",
  },
  E_EGRESS_REFUSED: {
    exit: EXIT.failure,
    meaning: "The host did not connect: its own policy, its resolver or the destination said no.",
    hint: "`pipeline net NAME` shows what the host refused and why.",
  },
  E_EGRESS_INSPECTION: {
    exit: EXIT.failure,
    meaning: "The first bytes of a connection do not prove that it is for the host that was dialled.",
    hint: "TLS clients must send the host's name in clear; `tls: off` in the rule stops the check.",
  },
  E_EGRESS_LIMIT: {
    exit: EXIT.failure,
    meaning: "A connection broke a limit of its rule or of the proxy.",
    hint: "Raise the rule's limit if the traffic is right.",
  },
  E_EGRESS_PROXY: {
    exit: EXIT.failure,
    meaning: "What came to a proxy listener is neither CONNECT nor SOCKS5.",
    hint: "Set the program's proxy to the right one of the two ports.",
  },
  E_DNS_MESSAGE: {
    exit: EXIT.failure,
    meaning: "A DNS message is malformed.",
    hint: "The resolver of the enclave answers questions for one name each, over UDP and TCP.",
  },
} as const satisfies Readonly<Record<string, ErrorEntry>>;
