/** The enclave's end of an egress connection: a vsock connection to the host, its preface and the answer. */
import { randomBytes } from "node:crypto";
import type { Duplex } from "node:stream";

import { Deadline } from "../../core/deadline.ts";
import { KitError } from "../../core/errors.ts";
import {
  decodeEgressAnswer,
  EGRESS_ANSWER_BYTES,
  EGRESS_TOKEN_BYTES,
  type EgressDestination,
  type EgressStatus,
  encodeEgressPreface,
} from "../../wire/egress-preface.ts";
import type { EgressTarget } from "../policy/egress-policy.ts";
import { addressBytes } from "../policy/network.ts";
import { readExactly } from "../preface-reader.ts";

/** Connects to the egress port of the host. */
export type DialHost = (signal: AbortSignal) => Promise<Duplex>;

/** The host may take its time to look a name up and to connect. */
const ANSWER_TIMEOUT_MS = 20_000;

/** What the host said other than `connected`. */
export class HostRefusal extends KitError {
  readonly status: EgressStatus;

  constructor(status: EgressStatus, target: EgressTarget) {
    super("E_EGRESS_REFUSED", `the host does not connect to ${target.host}, port ${target.port}: ${status}`);
    this.status = status;
  }
}

/**
 * @returns raw bytes to and from the destination, nothing of them read yet
 * @throws HostRefusal, E_EGRESS_PREFACE, errno of the vsock connection, E_DEADLINE or the signal's reason
 */
export async function openEgressStream(
  target: EgressTarget,
  dialHost: DialHost,
  signal: AbortSignal,
): Promise<Duplex> {
  using answering = new Deadline(signal, ANSWER_TIMEOUT_MS);
  const deadline = answering.signal;
  const stream = await dialHost(deadline);
  const fail = (): void => void stream.destroy();
  stream.on("error", fail);
  try {
    const token = randomBytes(EGRESS_TOKEN_BYTES);
    stream.write(encodeEgressPreface(toDestination(target), target.port, token));
    const answer = await readExactly(stream, EGRESS_ANSWER_BYTES, deadline, "E_EGRESS_PREFACE");
    const status = decodeEgressAnswer(answer, token);
    if (status !== "connected") throw new HostRefusal(status, target);
    return stream;
  } catch (error) {
    stream.destroy();
    throw error;
  }
}

function toDestination({ kind, host }: EgressTarget): EgressDestination {
  if (kind === "name") return { kind, name: host };
  const bytes = addressBytes(host);
  return { kind: bytes.length === 4 ? "ipv4" : "ipv6", bytes };
}
