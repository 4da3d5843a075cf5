/** The network of an enclave as tables. Names come from the enclave, so nothing of them moves the cursor. */
import { toPrintable } from "../../core/printable.ts";
import type { Terminal } from "../../core/terminal.ts";
import { renderAge, renderBytes, renderTable } from "../../core/text-table.ts";
import type {
  NetworkConnection,
  NetworkDenial,
  NetworkListener,
  NetworkReport,
  TrafficCounts,
} from "../../wire/network-report.ts";
import type { EnclaveNetwork } from "../controller/network.ts";

const MAX_ROWS = 40;

export function renderNetwork({ host, enclave }: EnclaveNetwork, terminal: Terminal, nowMs: number): string {
  const sides = enclave === null ? [host] : [enclave, host];
  const title = (text: string): string => terminal.colour("bold", text);
  const lead = enclave === null ? ["the enclave tells nothing in production; this is the host's side"] : [];
  const sections = [
    ["LISTENERS", renderTable(limited([LISTENERS, ...sides.flatMap(listenerRows)]))],
    ["RULES", renderTable([RULES, ...sides.flatMap(ruleRows)])],
    ["CONNECTIONS", renderTable(limited([CONNECTIONS, ...sides.flatMap(connectionRows)]))],
    ["DENIED", renderTable(limited([DENIALS, ...sides.flatMap((side) => denialRows(side, nowMs))]))],
  ] as const;
  const texts = sections.map(([name, table]) => `${title(name)}\n${toPrintable(table)}`);
  return [...lead, ...texts].join("\n\n");
}

const LISTENERS = ["SIDE", "PURPOSE", "ADDRESS", "TO"];
const RULES = ["SIDE", "RULE", "LIVE", "TOTAL", "REFUSED", "OUT", "IN"];
const CONNECTIONS = ["SIDE", "DIRECTION", "PEER", "STATE", "AGE", "IDLE", "OUT", "IN"];
const DENIALS = ["SIDE", "TARGET", "REASON", "COUNT", "LAST", "RULE THAT WOULD ALLOW IT"];

function listenerRows({ side, listeners }: NetworkReport): string[][] {
  return listeners.map((listener) => [side, listener.purpose, formatPlace(listener), describeEnd(listener)]);
}

function formatPlace({ protocol, address, port }: NetworkListener): string {
  return `${protocol} ${address.includes(":") ? `[${address}]` : address}:${port}`;
}

function describeEnd({ servicePort }: NetworkListener): string {
  return servicePort === undefined ? "-" : `port ${servicePort}`;
}

function ruleRows({ side, rules, ingress }: NetworkReport): string[][] {
  return [
    ...rules.map(({ rule, ...counts }) => [side, rule, ...countCells(counts)]),
    [side, "(ports)", ...countCells(ingress)],
  ];
}

function countCells({ live, total, refused, bytesOut, bytesIn }: TrafficCounts): string[] {
  return [String(live), String(total), String(refused), renderBytes(bytesOut), renderBytes(bytesIn)];
}

function connectionRows({ side, connections, connectionsOmitted }: NetworkReport): string[][] {
  const more = connectionsOmitted === 0 ? [] : [[side, `and ${connectionsOmitted} more`]];
  return [...connections.map((one) => connectionRow(side, one)), ...more];
}

function connectionRow(side: string, connection: NetworkConnection): string[] {
  const { direction, peer, state, ageMs, idleMs, bytesOut, bytesIn } = connection;
  return [
    side,
    direction,
    peer,
    state,
    renderAge(ageMs),
    renderAge(idleMs),
    renderBytes(bytesOut),
    renderBytes(bytesIn),
  ];
}

function denialRows({ side, denials }: NetworkReport, nowMs: number): string[][] {
  return denials.map((denial: NetworkDenial) => [
    side,
    denial.target,
    denial.reason,
    String(denial.count),
    `${renderAge(nowMs - denial.lastTime)} ago`,
    denial.allow ?? "-",
  ]);
}

function limited(rows: readonly string[][]): readonly string[][] {
  const rest = rows.length - 1 - MAX_ROWS;
  return rest <= 0 ? rows : [...rows.slice(0, MAX_ROWS + 1), [`... ${rest} more: --json shows all`]];
}
