/**
 * The figures of docs/performance.md, each beside its limit and in the same run:
 *   startup   warm `up` to the first answer of hello, beside a bare `node server.js`
 *   memory    resident memory of every process, beside an empty Node
 *   many      enclaves at once: time and memory for each
 *
 * Usage: npm run bench -- [startup] [memory] [many]
 */
import { measureMany } from "./many.ts";
import { measureMemory } from "./memory.ts";
import { measureStartup } from "./startup.ts";

const BENCHES: Readonly<Record<string, () => Promise<void>>> = {
  startup: measureStartup,
  memory: measureMemory,
  many: measureMany,
};

const asked = process.argv.slice(2);
for (const [name, measure] of Object.entries(BENCHES)) {
  if (asked.length === 0 || asked.includes(name)) await measure();
}
