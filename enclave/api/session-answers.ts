/** What the supervisor answers about sessions (wire/session-frames.ts). */
import { KitError } from "../../core/errors.ts";
import type { ExecStatus } from "../../wire/control.ts";
import type { SessionStatus, SessionTicket } from "../../wire/session-frames.ts";
import { StrictObject } from "../../wire/strict-object.ts";

const ID = { minimum: 1, maximum: 0xff_ff_ff_ff };
const STATUS_KEYS = ["id", "state", "pid", "exitCode", "reason", "report"];

/** @throws E_ENCLAVE_FRAME */
export function decodeTicket(value: unknown): SessionTicket {
  const object = new StrictObject(value, "ticket", ["id", "token", "streams"], refuse);
  const streams = object.integers("streams", 3, { minimum: 0, maximum: 2 });
  return {
    id: object.integer("id", ID),
    token: object.text("token", { pattern: /^[0-9a-f]{32}$/ }),
    streams: streams.filter((descriptor) => descriptor === 0 || descriptor === 1 || descriptor === 2),
  };
}

/** @throws E_ENCLAVE_FRAME */
export function decodeSessionStatus(value: unknown): SessionStatus {
  const object = new StrictObject(value, "session", STATUS_KEYS, refuse);
  const integer = (key: string, maximum: number): number | null =>
    object.raw(key) === null ? null : object.integer(key, { minimum: 0, maximum });
  return {
    id: object.integer("id", ID),
    state: object.word("state", ["created", "running", "ended"]),
    pid: integer("pid", Number.MAX_SAFE_INTEGER),
    exitCode: integer("exitCode", 255),
    reason: object.raw("reason") === null ? null : object.text("reason"),
    report: object.text("report"),
  };
}

/** What clients are told. */
export function toExecStatus({ report: _report, ...status }: SessionStatus): ExecStatus {
  return status;
}

function refuse(message: string): KitError {
  return new KitError("E_ENCLAVE_FRAME", message);
}
