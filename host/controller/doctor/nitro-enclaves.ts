/** nitro-cli itself, and what runs already: enclaves with their CIDs, listeners on vsock ports. */
import { toKitError } from "../../../core/errors.ts";
import { VSOCK_PORT } from "../../../wire/ports.ts";
import { findNitroCli, findProgram } from "../../backends/nitro/find-nitro-cli.ts";
import { type DescribedEnclave, NitroCli } from "../../backends/nitro/nitro-cli.ts";
import { runProgram } from "../../backends/nitro/run-program.ts";
import { fail, type Finding, ok, warn } from "./finding.ts";

interface Place {
  readonly searchPath: string;
}

const TIMEOUT_MS = 10_000;
/** Ports of this host that nitro-cli and the runner listen on. */
const HOST_PORTS = [
  VSOCK_PORT.heartbeat,
  VSOCK_PORT.developmentNsm,
  VSOCK_PORT.initReport,
  VSOCK_PORT.egress,
];

export async function checkNitroCli({ searchPath }: Place): Promise<Finding> {
  try {
    const program = await findNitroCli(searchPath);
    const version = await new NitroCli({ program }).version(AbortSignal.timeout(TIMEOUT_MS));
    return ok("nitro-cli", `${version} (${program})`);
  } catch (error) {
    const { message, hint } = toKitError(error);
    return fail("nitro-cli", { detail: message, fix: hint });
  }
}

/** None of it stops a launch; it tells who has what, and what deceives. */
export async function checkEnclaves({ searchPath }: Place): Promise<Finding[]> {
  const check = "running enclaves";
  const program = await findProgram("nitro-cli", searchPath);
  if (program === undefined) return [];
  try {
    const enclaves = await new NitroCli({ program }).describeEnclaves(AbortSignal.timeout(TIMEOUT_MS));
    return [
      describeClash(check, enclaves) ?? describeDebug(check, enclaves) ?? ok(check, listEnclaves(enclaves)),
    ];
  } catch (error) {
    const { message, hint } = toKitError(error);
    return [fail(check, { detail: message, fix: hint })];
  }
}

function listEnclaves(enclaves: readonly DescribedEnclave[]): string {
  if (enclaves.length === 0) return "none";
  return enclaves
    .map(
      (one) =>
        `${one.EnclaveName ?? one.EnclaveID} (CID ${one.EnclaveCID}, ${one.MemoryMiB} MiB, CPUs ${one.CPUIDs.join(", ")})`,
    )
    .join("; ");
}

function describeClash(check: string, enclaves: readonly DescribedEnclave[]): Finding | undefined {
  const [first, second] = enclaves.flatMap((one, index) => {
    const other = enclaves
      .slice(index + 1)
      .find((later) => later.EnclaveCID === one.EnclaveCID && one.EnclaveCID !== 0);
    return other === undefined ? [] : [one, other];
  });
  if (first === undefined || second === undefined) return undefined;
  return fail(check, {
    detail: `${first.EnclaveID} and ${second.EnclaveID} have the same CID ${first.EnclaveCID}`,
    fix: `nitro-cli terminate-enclave --enclave-id ${second.EnclaveID}`,
  });
}

function describeDebug(check: string, enclaves: readonly DescribedEnclave[]): Finding | undefined {
  const debug = enclaves.find((one) => one.Flags.includes("DEBUG_MODE"));
  if (debug === undefined) return undefined;
  return warn(check, {
    detail: `${listEnclaves(enclaves)}; ${debug.EnclaveID} is in debug mode: its documents have zero PCRs, whatever describe-enclaves shows`,
    fix: `nitro-cli terminate-enclave --enclave-id ${debug.EnclaveID}, unless that is wanted`,
  });
}

/** Whoever listens on nitro-cli's heartbeat port makes every launch fail; on ours, the runner. */
export async function checkVsockPorts({ searchPath }: Place): Promise<Finding> {
  const check = "vsock ports";
  const program = await findProgram("ss", searchPath);
  const fix = "sudo dnf install iproute";
  if (program === undefined) return warn(check, { detail: "cannot tell who listens: ss is missing", fix });
  const words = ["--no-header", "--listening", "--numeric", "--vsock"];
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  try {
    const { status, stdout } = await runProgram({
      program,
      words,
      environment: {},
      timeoutMs: TIMEOUT_MS,
      signal,
    });
    if (status !== 0)
      return warn(check, { detail: "cannot tell who listens: ss failed", fix: "sudo modprobe vsock_diag" });
    const listening = new Set([...stdout.matchAll(/:(\d+)\s/g)].map((match) => Number(match[1])));
    const used = HOST_PORTS.filter((port) => listening.has(port));
    if (used.length === 0) return ok(check, `${HOST_PORTS.join(", ")} are free`);
    return warn(check, {
      detail: `in use: ${used.join(", ")}; an enclave of this toolkit runs, or another program is in the way`,
      fix: "sudo ss --vsock --listening --processes, then pipeline stop NAME or end that program",
    });
  } catch (error) {
    return warn(check, { detail: `cannot tell who listens: ${toKitError(error).message}`, fix });
  }
}
