import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { descendants, HELLO, memoryKib, print, runPipeline } from "./pipeline-process.ts";

/** Resident memory of our processes beside an empty Node of the same version, which only waits. */
export async function measureMemory(): Promise<void> {
  const empty = spawn(process.execPath, ["-e", "setInterval(() => {}, 1e9)"], { stdio: "ignore" });
  const stateDir = await mkdtemp(join(tmpdir(), "pl-"));
  try {
    const { runner } = JSON.parse(
      runPipeline(stateDir, ["up", HELLO, "-d", "--json", "-p", "127.0.0.1:0:8080"]),
    );
    await new Promise((resolve) => setTimeout(resolve, 1000)); // let start-up garbage be collected
    const base = memoryKib(empty.pid ?? 0).rss;
    print(`memory: empty Node ${(base / 1024).toFixed(1)} MiB resident`);
    const ours = [{ pid: Number(runner.pid), command: "runner.js" }, ...descendants(Number(runner.pid))];
    for (const { pid, command } of ours) {
      const name = /(runner|supervisor|gateway|ra-server|launcher|server)\.(?:m?js)|\/(launcher|init)\b/.exec(
        command,
      );
      const { rss, pss } = memoryKib(pid);
      const label = name?.[1] ?? name?.[2] ?? command.slice(0, 30);
      print(
        `memory: ${label}: rss ${(rss / 1024).toFixed(1)} MiB, pss ${(pss / 1024).toFixed(1)} MiB, ${(rss / base).toFixed(2)} x empty Node`,
      );
    }
  } finally {
    runPipeline(stateDir, ["down", "--all"]);
    await rm(stateDir, { recursive: true });
    empty.kill("SIGKILL");
  }
}
