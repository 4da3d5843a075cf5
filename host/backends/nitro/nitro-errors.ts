/**
 * From what nitro-cli prints when it refuses to an error of ours. Its form on stderr, once for the cause and often once
 * more as E39 for the process that the cause ended:
 *
 *     [ E26 ] Insufficient memory requested. User provided `memory` is 512 MB, but ...
 *     File: '/dev/nitro_enclaves', failing operation: 'Open'.
 *
 *     For more details, please visit https://docs.aws.amazon.com/enclaves/latest/user/cli-errors.html#E26
 *
 *     If you open a support ticket, please provide the error log found at "/var/log/nitro_enclaves/err....log"
 *     Failed connections: 1
 *
 * The exit status is the number of the code.
 */
import { KitError } from "../../../core/errors.ts";
import { toPrintable } from "../../../core/printable.ts";
import { NITRO_ADVICE, type NitroAdvice } from "./nitro-advice.ts";

const MAX_LINE_CHARACTERS = 400;
/** Only says that the process of the enclave has ended; the cause stands before it. */
const CONSEQUENCE = "E39";

interface Complaint {
  readonly code: string;
  readonly text: string;
}

/** True for what nitroRefusal made: nitro-cli itself has ended the command. */
export function isNitroRefusal(error: unknown): boolean {
  return error instanceof KitError && Object.hasOwn(error.details, "nitroStatus");
}

/** @param action word of nitro-cli's command line, such as run-enclave */
export function nitroRefusal(action: string, status: number | null, stderr: string): KitError {
  const complaints = readComplaints(stderr);
  const cause =
    complaints.find((one) => one.code !== CONSEQUENCE) ?? complaints[0] ?? byStatus(status, stderr);
  if (cause === undefined) {
    const end = status === null ? "was killed" : `ended with status ${status}`;
    const said = firstLines(stderr, 3) || "it said nothing";
    const details = { nitroStatus: status, action };
    return new KitError("E_NITRO_CLI", `nitro-cli ${action} ${end}: ${said}`, { details });
  }
  const advice = adviseOn(cause);
  const what = cause.text === "" ? advice.name : cause.text;
  return new KitError(advice.error ?? "E_NITRO_CLI", `nitro-cli ${action}: ${cause.code}: ${what}`, {
    hint: advice.hint,
    details: { nitroCode: cause.code, nitroStatus: status, action },
  });
}

/** The first `count` lines that hold anything, printable and bounded, as one line. */
export function firstLines(text: string, count: number): string {
  const lines = text
    .slice(0, 16_384)
    .split("\n")
    .map((line) => toPrintable(line).trim())
    .filter((line) => line !== "");
  return lines.slice(0, count).join(" / ").slice(0, MAX_LINE_CHARACTERS);
}

function readComplaints(stderr: string): Complaint[] {
  return [...stderr.matchAll(/^\[ (E\d\d) \] ?(.*(?:\nFile: .*)?)/gm)]
    .slice(0, 16)
    .map(([, code = "", text = ""]) => ({ code, text: firstLines(text, 2) }));
}

function byStatus(status: number | null, stderr: string): Complaint | undefined {
  const code = status === null ? "" : `E${String(status).padStart(2, "0")}`;
  return Object.hasOwn(NITRO_ADVICE, code) ? { code, text: firstLines(stderr, 1) } : undefined;
}

function adviseOn({ code, text }: Complaint): NitroAdvice {
  const general = NITRO_ADVICE[code] ?? {
    name: "a code that this release does not know",
    hint: `Run \`nitro-cli explain --error-code ${code}\`.`,
  };
  return code === "E19" ? { ...general, ...adviseOnFile(text) } : general;
}

/** E19 names the file, and the file names the cause. */
function adviseOnFile(text: string): Partial<NitroAdvice> {
  if (text.includes("/ne_cpus"))
    return { hint: "The driver is not loaded: `sudo modprobe nitro_enclaves`; `pipeline doctor` checks it." };
  if (/\/dev\/(?:nitro_enclaves|vsock)|nitro_enclaves\.log|\/var\/log\/nitro_enclaves/.test(text))
    return {
      error: "E_NITRO_ACCESS",
      hint: "Join the group: `sudo usermod -aG ne $USER`, and log in again; `pipeline doctor` checks the devices.",
    };
  return {};
}
