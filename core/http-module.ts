import type http from "node:http";

/**
 * node:http without what hangs on it. An `import` from it reads every export, and some of those load the whole of fetch
 * and WebSocket when read: 25 ms and 10 MB in every process (measured on Node 26). This does not.
 */
export function loadHttp(): typeof http {
  return process.getBuiltinModule("node:http");
}
