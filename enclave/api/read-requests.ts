/** Reads of events and logs as clients ask for them. */
export interface EventsRequest {
  /** Only entries with a greater number. */
  readonly after: number;
  readonly follow: boolean;
}

export interface LogsRequest extends EventsRequest {
  /** Absent: all, without the gateway's own output. */
  readonly service?: readonly string[];
  /** Milliseconds since the epoch. */
  readonly since?: number;
  /** Only the last so many of what is there now. */
  readonly tail?: number;
}
