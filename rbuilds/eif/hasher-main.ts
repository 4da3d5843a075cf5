/** Thread that hashes what it is told to (hash-messages.ts): one half of the work of writing an image. */
import { createHash } from "node:crypto";
import { parentPort, workerData } from "node:worker_threads";

import type { HashAnswer, HasherData, HashRequest } from "./hash-messages.ts";

const { shared, withFile }: HasherData = workerData;
const pcr2 = createHash("sha384");
const file = createHash("sha256");

function answer(request: HashRequest): HashAnswer {
  if (request === "end") return { pcr2: pcr2.digest("hex"), file: file.digest("hex") };
  let start = request.offset;
  for (const [end, inPcr2] of request.steps) {
    const bytes = Buffer.from(shared, start, request.offset + end - start);
    if (withFile) file.update(bytes);
    if (inPcr2) pcr2.update(bytes);
    start += bytes.length;
  }
  return "done";
}

parentPort?.on("message", (request: HashRequest) => parentPort?.postMessage(answer(request)));
