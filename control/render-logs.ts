import { toPrintable } from "../core/printable.ts";
import type { Terminal } from "../core/terminal.ts";

const COLOURS = ["green", "yellow", "blue", "magenta", "cyan"] as const;

export interface LogLine {
  readonly time: number;
  readonly service: string;
  readonly line: string;
}

export interface LogRendering {
  readonly terminal: Terminal;
  /** Services in the order they were seen: gives each its colour. */
  readonly names: Map<string, number>;
  readonly timestamps: boolean;
}

/** `web  | line`, the name in the service's colour. Control characters of services do not reach the terminal. */
export function renderLogEntry(entry: LogLine, { terminal, names, timestamps }: LogRendering): string {
  const index = names.get(entry.service) ?? names.size;
  names.set(entry.service, index);
  const width = Math.max(...names.keys().map((name) => name.length));
  const name = terminal.colour(COLOURS[index % COLOURS.length] ?? "green", entry.service.padEnd(width));
  const time = timestamps ? `${new Date(entry.time).toISOString()} ` : "";
  return `${time}${name} | ${toPrintable(entry.line)}`;
}
