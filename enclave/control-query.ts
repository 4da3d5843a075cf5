/** Query strings of the control API. Unknown keys, repeated keys and odd numbers are refused, not guessed at. */
import { KitError } from "../core/errors.ts";

export interface LogsQuery {
  /** Absent: every service. */
  readonly services?: readonly string[];
  readonly after: number;
  readonly tail?: number;
  readonly follow: boolean;
}

const MAX_SERVICES = 256;
const MAX_TAIL = 1_000_000;

/** @throws E_CONTROL_REQUEST */
export function parseLogsQuery(search: URLSearchParams): LogsQuery {
  assertKeys(search, ["service", "after", "tail", "follow"]);
  const services = search.getAll("service");
  if (services.length > MAX_SERVICES) throw refuse(`more than ${MAX_SERVICES} services`);
  const tail = readCount(search, "tail", MAX_TAIL);
  return {
    after: readCount(search, "after", Number.MAX_SAFE_INTEGER) ?? 0,
    follow: readFlag(search, "follow"),
    ...(services.length === 0 ? {} : { services }),
    ...(tail === undefined ? {} : { tail }),
  };
}

/** @throws E_CONTROL_REQUEST */
export function parseEventsQuery(search: URLSearchParams): { readonly after: number } {
  assertKeys(search, ["after"]);
  return { after: readCount(search, "after", Number.MAX_SAFE_INTEGER) ?? 0 };
}

/** @throws E_CONTROL_REQUEST if there is any key. */
export function assertNoQuery(search: URLSearchParams): void {
  assertKeys(search, []);
}

function assertKeys(search: URLSearchParams, known: readonly string[]): void {
  for (const key of search.keys()) {
    if (!known.includes(key)) throw refuse(`unknown key ${JSON.stringify(key.slice(0, 64))} in the query`);
  }
}

function readOnce(search: URLSearchParams, key: string): string | undefined {
  const values = search.getAll(key);
  if (values.length > 1) throw refuse(`${key} is given more than once`);
  return values[0];
}

function readCount(search: URLSearchParams, key: string, maximum: number): number | undefined {
  const text = readOnce(search, key);
  if (text === undefined) return undefined;
  const value = /^(0|[1-9][0-9]{0,15})$/.test(text) ? Number(text) : Number.NaN;
  if (value <= maximum) return value;
  throw refuse(`${key} must be a number from 0 to ${maximum}, not ${JSON.stringify(text.slice(0, 32))}`);
}

function readFlag(search: URLSearchParams, key: string): boolean {
  const text = readOnce(search, key) ?? "false";
  if (text === "true" || text === "false") return text === "true";
  throw refuse(`${key} must be true or false, not ${JSON.stringify(text.slice(0, 32))}`);
}

function refuse(message: string): KitError {
  return new KitError("E_CONTROL_REQUEST", message);
}
