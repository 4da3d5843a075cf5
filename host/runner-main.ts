/**
 * The process that owns one enclave: `runner.js DIRECTORY`. Descriptor 3 is a socket to the command that started it:
 * every change of the record goes there as a JSON line; in the foreground its end asks for an ordered stop.
 */
import { readFile } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { Socket } from "node:net";

import { createLog } from "../core/log.ts";
import { identifyProcess } from "./process-identity.ts";
import { RecordKeeper } from "./runner/record-keeper.ts";
import type { RunRequest } from "./runner/run-request.ts";
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
for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => stop.abort());
process.on("SIGHUP", () => undefined);
if (request.foreground) channel.once("close", () => stop.abort());
channel.resume();

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
await new Runner({ request, paths, keeper, log, stop: stop.signal }).run();
channel.end();
channel.destroySoon();
