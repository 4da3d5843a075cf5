/** Sessions that were made and not yet started, by number. Their tokens are between gateway and supervisor alone. */
import type { ExecRequest, ExecStatus } from "../../wire/control.ts";
import { KitError } from "../../core/errors.ts";
import type { SessionTicket } from "../../wire/session-frames.ts";
import { decodeTicket } from "./session-answers.ts";
import type { SupervisorClient } from "./supervisor-client.ts";

/** The supervisor forgets them earlier; this bounds what is kept here. */
const MAX_TICKETS = 128;

export class TicketStore {
  readonly #tickets = new Map<number, SessionTicket>();

  async create(client: SupervisorClient, params: ExecRequest): Promise<ExecStatus> {
    const ticket = decodeTicket(await client.call({ method: "exec.create", params }));
    const oldest = this.#tickets.keys().next();
    if (this.#tickets.size >= MAX_TICKETS && oldest.done !== true) this.#tickets.delete(oldest.value);
    this.#tickets.set(ticket.id, ticket);
    return { id: ticket.id, state: "created", pid: null, exitCode: null, reason: null };
  }

  /** A session is started once. @throws E_EXEC_UNKNOWN */
  take(id: number): SessionTicket {
    const ticket = this.#tickets.get(id);
    this.#tickets.delete(id);
    if (ticket !== undefined) return ticket;
    throw new KitError("E_EXEC_UNKNOWN", `there is no session ${id} that could be started`);
  }
}
