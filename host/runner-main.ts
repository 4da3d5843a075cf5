/**
 * The process that owns one enclave: `runner.js DIRECTORY`. Descriptor 3 is a socket to the command that started it:
 * every change of the record goes there as a JSON line, and a request to stop may come back. In the foreground the
 * command's end asks for an ordered stop too; where the command had asked before it ended, it does not wait any longer.
 */
import { readFile } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { Socket } from "node:net";

import { createLog } from "../core/log.ts";
import { readLine } from "./line-reader.ts";
import { identifyProcess } from "../core/process-identity.ts";
import { RecordKeeper } from "./runner/record-keeper.ts";
import { decodeStopRequest, MAX_STOP_REQUEST_BYTES, type RunRequest } from "./runner/run-request.ts";
import { Runner } from "./runner/runner.ts";
import { enclavePaths } from "./state/enclave-paths.ts";
import { writeRecordFile } from "./state/record-file.ts";

const CHANNEL_FD = 3;

const [directory = ""] = process.argv.slice(2);
const log = createLog({ write: (line) => process.stderr.write(line), now: Date.now });
const paths = enclavePaths(dirname(dirname(directory)), basename(directory));
const request: RunRequest = JSON.parse(await readFile(paths.request, "utf8"));
const channel = new Socket({ fd: CHANNEL_FD });
channel.on("error", () => undefined); // the command may go at any time
const stop = new AbortController();
const kill = new AbortController();
for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => stop.abort());
process.on("SIGHUP", () => undefined);
void obeyCommand();

const identity = await identifyProcess(process.pid);
const keeper = new RecordKeeper({
  first: request.record,
  write: async (record) => await writeRecordFile(paths.record, record),
  onChange: (record) => {
    if (channel.writable) channel.write(`${JSON.stringify(record)}\n`);
  },
  log,
});
keeper.update({ runner: { pid: process.pid, startTicks: identity?.startTicks ?? null } });
await new Runner({ request, paths, keeper, log, stop: stop.signal, kill: kill.signal }).run();
channel.end();
channel.destroySoon();

/** The one request of the command that started this runner, or its end. */
async function obeyCommand(): Promise<void> {
  try {
    const { line } = await readLine(channel, MAX_STOP_REQUEST_BYTES, new AbortController().signal);
    stop.abort(decodeStopRequest(Buffer.from(line, "latin1").toString("utf8")) ?? null);
    channel.once("close", () => kill.abort()).resume();
  } catch {
    if (request.foreground) stop.abort();
  }
}
