import { Command } from "commander";

import { inspectEnclave, isLive, listEnclaves } from "../controller/inspect.ts";
import type { EnclaveRecord } from "../state/enclave-record.ts";
import type { GetContext } from "./command-context.ts";
import { describeBackend, describePort, describeStatus, toStatusJson } from "./describe-record.ts";
import { renderAge, renderTable } from "../../core/text-table.ts";

export function createPsCommand(getContext: GetContext): Command {
  return new Command("ps")
    .description("list enclaves")
    .option("-a, --all", "also those that ended")
    .option("--json", "print JSON")
    .addHelpText("after", "\nExamples:\n  pipeline ps\n  pipeline ps --all --json")
    .action(async (flags: { readonly all?: boolean; readonly json?: boolean }) => {
      const { toolkit, terminal } = getContext();
      const { records, damaged } = await listEnclaves(toolkit.stateDir);
      for (const error of damaged) terminal.note(`warning: ${error.message} (${error.hint})`);
      const shown = records.filter((record) => flags.all === true || isLive(record));
      if (flags.json === true) terminal.printJson(shown.map(toStatusJson));
      else terminal.print(renderTable([HEAD, ...shown.map((record) => toRow(record, Date.now()))]));
    });
}

const HEAD = ["NAME", "STATE", "BACKEND", "MODE", "AGE", "SERVICES", "PORTS", "REASON"];

function toRow(record: EnclaveRecord, nowMs: number): string[] {
  const running = record.services.filter((service) => service.state === "running").length;
  return [
    record.name,
    record.state,
    describeBackend(record),
    record.mode,
    renderAge(nowMs - record.createdAt),
    `${running}/${record.services.length}`,
    record.ports.map(describePort).join(", ") || "-",
    record.reason ?? "-",
  ];
}

export function createStatusCommand(getContext: GetContext): Command {
  return new Command("status")
    .description("show one enclave and its services, and why something is not well")
    .argument("<name>", "name of the enclave")
    .option("--json", "print JSON")
    .addHelpText("after", "\nExamples:\n  pipeline status hello\n  pipeline status hello --json")
    .action(async (name: string, flags: { readonly json?: boolean }) => {
      const { toolkit, terminal } = getContext();
      const record = await inspectEnclave(toolkit.stateDir, name);
      if (flags.json === true) terminal.printJson(toStatusJson(record));
      else terminal.print(describeStatus(record, Date.now()));
    });
}
