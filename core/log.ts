/** Structured logs: a constant message with fields beside it, one JSON line each. Libraries never print. */

export type LogLevel = "debug" | "info" | "warn" | "error";
export type LogFields = Readonly<Record<string, unknown>>;

export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** A log that adds `fields` to every line. */
  child(fields: LogFields): Log;
}

export interface LogOptions {
  /** Receives each line with its newline. */
  readonly write: (line: string) => void;
  readonly now: () => number;
  readonly minimum?: LogLevel;
  readonly fields?: LogFields;
}

const ORDER: Readonly<Record<LogLevel, number>> = { debug: 0, info: 1, warn: 2, error: 3 };

export function createLog(options: LogOptions): Log {
  const minimum = ORDER[options.minimum ?? "info"];
  const emit = (level: LogLevel, message: string, fields: LogFields = {}): void => {
    if (ORDER[level] < minimum) return;
    const time = new Date(options.now()).toISOString();
    options.write(`${JSON.stringify({ time, level, message, ...options.fields, ...fields })}\n`);
  };
  return {
    debug: (message, fields) => emit("debug", message, fields),
    info: (message, fields) => emit("info", message, fields),
    warn: (message, fields) => emit("warn", message, fields),
    error: (message, fields) => emit("error", message, fields),
    child: (fields) => createLog({ ...options, fields: { ...options.fields, ...fields } }),
  };
}
