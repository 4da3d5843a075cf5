/** Writes one image in a process of its own and prints how long that took, in ms, and its peak memory in MiB. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { writeEif } from "../rbuilds/eif/write-eif.ts";

const { small, parts, output } = JSON.parse(process.argv[2] ?? "");
const start = performance.now();
await writeEif(
  {
    architecture: "x86_64",
    kernel: small,
    commandLine: "console=ttyS0",
    metadata: {
      imageName: "bench",
      imageVersion: "1",
      buildMetadata: {
        buildTime: "1970-01-01T00:00:00Z",
        buildTool: "bench",
        buildToolVersion: "0",
        operatingSystem: "Linux",
        kernelVersion: "0",
      },
      dockerInfo: null,
      customMetadata: null,
    },
    ramdisks: [[small], parts],
  },
  output,
  { hasher: fileURLToPath(new URL("../rbuilds/eif/hasher-main.ts", import.meta.url)) },
);
/** Not maxRSS, which begins with what the parent had when it forked. */
const peakKib = Number(/^VmHWM:\s+(\d+)/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? 0);
process.stdout.write(`${performance.now() - start} ${peakKib / 1024}\n`);
