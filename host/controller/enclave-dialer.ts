/** Connections from the host to the programs of an enclave that listen on vsock. */
import type { Socket } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

import type { Dial } from "../../control/control-request.ts";
import { backoffDelayMs } from "../../core/backoff.ts";
import { withDeadline } from "../../core/deadline.ts";
import { isErrno, KitError } from "../../core/errors.ts";
import { openSocket } from "../../core/open-socket.ts";
import {
  decodeOk,
  encodeConnect,
  GUEST_FOLDER,
  HOST_SOCKET,
  MAX_HANDSHAKE_BYTES,
} from "../../wire/hybrid-vsock.ts";
import { VSOCK_PORT } from "../../wire/ports.ts";
import { readLine } from "../line-reader.ts";
import { enclavePaths } from "../state/enclave-paths.ts";
import { findEnclave, inspectEnclave, isLive } from "./inspect.ts";

/** For a gateway that is being started or started again. */
const RETRY_TIMEOUT_MS = 5_000;
const RETRY = { initialMs: 20, maximumMs: 250, jitter: 0.2 };

/**
 * Dials the control API, and again for a while where nobody listens yet.
 * @throws E_HOST_NOT_FOUND, E_HOST_NOT_RUNNING, E_CONTROL_CLOSED in production; the dial: E_BACKEND_CONNECT,
 *   E_HOST_NOT_RUNNING if the enclave has ended meanwhile
 */
export async function dialEnclave(stateDir: string, name: string): Promise<Dial> {
  const record = await inspectEnclave(stateDir, name);
  if (!isLive(record)) throw notRunning(name, record.state);
  if (record.mode === "production")
    throw new KitError("E_CONTROL_CLOSED", `enclave ${name} runs in production: its control API is closed`);
  return dialPort(stateDir, name, VSOCK_PORT.control);
}

/**
 * Dials the attestation server, in production too, and again for a while where nobody listens yet.
 * @throws E_HOST_NOT_FOUND, E_HOST_NOT_RUNNING; the dial as that of dialEnclave
 */
export async function dialAttestation(stateDir: string, name: string): Promise<Dial> {
  const record = await inspectEnclave(stateDir, name);
  if (!isLive(record)) throw notRunning(name, record.state);
  return dialPort(stateDir, name, VSOCK_PORT.attestation);
}

function dialPort(stateDir: string, name: string, port: number): Dial {
  const directory = enclavePaths(stateDir, name).vsock;
  return async (signal) => {
    const deadline = withDeadline(signal, RETRY_TIMEOUT_MS);
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await dialOnce(directory, port, deadline);
      } catch (error) {
        signal.throwIfAborted();
        const now = await findEnclave(stateDir, name);
        if (now === undefined || !isLive(now)) throw notRunning(name, now?.state ?? "gone");
        if (deadline.aborted) throw unreachable(name, port, error);
        // Another failure than nobody listening does not go away by itself.
        if (!isNobodyListening(error)) throw unreachable(name, port, error);
        const pauseMs = backoffDelayMs(RETRY, attempt, Math.random);
        await delay(pauseMs, undefined, { signal: deadline }).catch(() => undefined);
      }
    }
  };
}

/** Straight to the enclave's socket where it has one on this host, else by the handshake of hybrid vsock. */
async function dialOnce(directory: string, port: number, signal: AbortSignal): Promise<Socket> {
  const guest = join(directory, GUEST_FOLDER);
  try {
    return await openSocket({ path: join(guest, String(port)), allowHalfOpen: true }, signal);
  } catch (error) {
    const hasNoGuest = isErrno(error, "ENOENT") || isErrno(error, "EACCES");
    if (!hasNoGuest) throw error;
    return await shakeHands(join(directory, HOST_SOCKET), port, signal);
  }
}

/** A port on which nobody listens is told by the end of the connection. */
async function shakeHands(path: string, port: number, signal: AbortSignal): Promise<Socket> {
  const socket = await openSocket({ path, allowHalfOpen: true }, signal);
  socket.on("error", () => socket.destroy()); // between two readers nobody else would hear of it
  try {
    socket.write(encodeConnect(port));
    const { line, rest } = await readLine(socket, MAX_HANDSHAKE_BYTES, signal);
    decodeOk(line);
    if (rest.length > 0) socket.unshift(rest);
    return socket;
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

function isNobodyListening(error: unknown): boolean {
  const isRefused = isErrno(error, "ECONNREFUSED") || isErrno(error, "ENOENT") || isErrno(error, "EAGAIN");
  return isRefused || (error instanceof KitError && error.code === "E_HOST_LINE");
}

function notRunning(name: string, state: string): KitError {
  return new KitError("E_HOST_NOT_RUNNING", `enclave ${name} does not run: it is ${state}`);
}

function unreachable(name: string, port: number, cause: unknown): KitError {
  const what = port === VSOCK_PORT.control ? "control API" : "attestation server";
  return new KitError("E_BACKEND_CONNECT", `the ${what} of enclave ${name} does not answer`, { cause });
}
