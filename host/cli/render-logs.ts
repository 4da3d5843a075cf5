import type { HostLogEntry } from "../runner/log-writer.ts";
import type { Terminal } from "./terminal.ts";

const COLOURS = ["green", "yellow", "blue", "magenta", "cyan"] as const;

export interface LogRendering {
  readonly terminal: Terminal;
  /** Services in the order they were seen: gives each its colour. */
  readonly names: Map<string, number>;
  readonly timestamps: boolean;
}

/** `web  | line`, the name in the service's colour. Control characters of services do not reach the terminal. */
export function renderLogEntry(entry: HostLogEntry, { terminal, names, timestamps }: LogRendering): string {
  const index = names.get(entry.service) ?? names.size;
  names.set(entry.service, index);
  const width = Math.max(...names.keys().map((name) => name.length));
  const name = terminal.colour(COLOURS[index % COLOURS.length] ?? "green", entry.service.padEnd(width));
  const time = timestamps ? `${new Date(entry.time).toISOString()} ` : "";
  return `${time}${name} | ${printable(entry.line)}`;
}

/** Colours of a program stay, everything else that moves the cursor or changes the terminal goes. */
function printable(line: string): string {
  // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
  return line.replaceAll(/\u001B\[[0-9;]*m|[\u0000-\u0008\u000B-\u001F\u007F-\u009F]/g, (found) =>
    found.endsWith("m") ? found : "",
  );
}
