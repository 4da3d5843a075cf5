import { openBenchEnclave } from "./operate-enclave.ts";
import { descendants, memoryKib, print } from "./pipeline-process.ts";

const SECONDS = 10;
const MIB = 1024 ** 2;

/** A service that prints lines of 64 bytes as fast as it can: what is taken from it, and what that costs. */
export async function measureLogs(): Promise<void> {
  await using enclave = await openBenchEnclave();
  const { client, runnerPid } = enclave;
  const supervisor = descendants(runnerPid).find((one) => one.command.includes("supervisor.mjs"))?.pid ?? 0;
  const memoryMib = (): number => memoryKib(supervisor).rss / 1024;
  const signal = AbortSignal.timeout(60_000);
  const before = memoryMib();
  await client.act("loud", "start", signal);
  const samples: string[] = [];
  const start = performance.now();
  let firstBytes: number | undefined;
  let bytes = 0;
  while (performance.now() - start < SECONDS * 1000) {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const { services } = await client.stats(signal);
    bytes = services.find((service) => service.name === "loud")?.outputBytes ?? 0;
    firstBytes ??= bytes;
    samples.push(memoryMib().toFixed(0));
  }
  const mibPerSecond = (bytes - (firstBytes ?? 0)) / MIB / (SECONDS - 1);
  await client.act("loud", "stop", signal);
  print(
    `logs: ${mibPerSecond.toFixed(1)} MiB/s, ${((mibPerSecond * MIB) / 65 / 1000).toFixed(0)} thousand lines/s`,
  );
  print(`logs: supervisor ${before.toFixed(0)} MiB before, then each second ${samples.join(" ")} MiB`);
}
