/**
 * `pipeline` and `initctl` on the host: turns the compile cache on, then runs the program of the same name
 * (host/pipeline-main.ts, host/initctl-main.ts, each a bundle of its own), which is large enough that compiling it anew
 * costs a third of a short command's time.
 */
import { enableCompileCache } from "node:module";
import { homedir } from "node:os";
import { join } from "node:path";

const { env } = process;
// In the user's own cache and nowhere shared: whoever can write there can make this program run anything.
enableCompileCache(join(env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "enclave-toolkit", "compiled"));
await import(import.meta.url.replace(/\.js$/, "-program.js"));
