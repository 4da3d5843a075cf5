import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

import { KitError } from "../../../core/errors.ts";
import { NITRO_ADVICE } from "../../../host/backends/nitro/nitro-advice.ts";
import { type LaunchRequest, NitroCli } from "../../../host/backends/nitro/nitro-cli.ts";
import { nitroRefusal } from "../../../host/backends/nitro/nitro-errors.ts";
import { type NitroBed, openNitroBed, until } from "./nitro-bed.ts";

let bed: NitroBed;
beforeEach(async () => {
  bed = await openNitroBed();
});
afterEach(async () => await bed[Symbol.asyncDispose]());

const signal = AbortSignal.timeout(600_000);

function launch(more: Partial<LaunchRequest> = {}): LaunchRequest {
  const { eifPath } = bed;
  const cpus = { count: 2 };
  return {
    eifPath,
    cpus,
    memoryMib: 128,
    cid: undefined,
    name: "signer",
    debug: false,
    timeoutMs: 20_000,
    ...more,
  };
}

async function refusal(act: Promise<unknown>): Promise<KitError> {
  const error: unknown = await act.then(
    () => undefined,
    (caught: unknown) => caught,
  );
  if (!(error instanceof KitError)) throw new Error(`expected a refusal, got ${String(error)}`);
  return error;
}

const base64 = (text: string | Uint8Array): string => Buffer.from(text).toString("base64");

describe("commands", () => {
  test("run-enclave, describe-enclaves and terminate-enclave tell and end one enclave", async () => {
    const launched = await bed.cli.runEnclave(launch({ cid: 42, debug: true }), signal);
    expect(launched).toMatchObject({ EnclaveName: "signer", EnclaveCID: 42, CPUIDs: [1, 2], MemoryMiB: 128 });
    expect(await bed.cli.describeEnclaves(signal)).toMatchObject([
      { EnclaveID: launched.EnclaveID, State: "RUNNING", Flags: "DEBUG_MODE" },
    ]);
    await bed.cli.terminateEnclave(launched.EnclaveID, signal);
    expect(await bed.cli.describeEnclaves(signal)).toEqual([]);
  });

  test("words of the command line are as documented", async () => {
    await bed.cli.runEnclave(launch({ cpus: { ids: [3, 1] } }), signal);
    const [call] = await bed.calls();
    expect(call?.words.join(" ")).toBe(
      `run-enclave --eif-path ${bed.eifPath} --cpu-ids 3 1 --memory 128 --enclave-name signer`,
    );
  });

  test("tells its version", async () => {
    expect(await bed.cli.version(signal)).toBe("Nitro CLI 1.4.2");
  });

  test("a nitro-cli that is not there is named", async () => {
    const error = await refusal(new NitroCli({ program: join(bed.folder, "none") }).describeEnclaves(signal));
    expect(error.code).toBe("E_NITRO_MISSING");
    expect(error.message).toContain(join(bed.folder, "none"));
  });

  test("a file that is no program is named", async () => {
    const program = join(bed.folder, "text");
    await writeFile(program, "hello", { mode: 0o644 });
    expect((await refusal(new NitroCli({ program }).version(signal))).code).toBe("E_NITRO_MISSING");
  });

  test("unknown keys of its answers are ignored", async () => {
    const answer = `[{"EnclaveID":"i-1-enc2","ProcessID":1,"EnclaveCID":16,"NumberOfCPUs":1,"CPUIDs":[1],"MemoryMiB":64,"State":"RUNNING","Flags":"NONE","Newer":{"a":[1]}}]`;
    await bed.misbehave({ "describe-enclaves": { do: "say", stdout: base64(answer) } });
    expect(await bed.cli.describeEnclaves(signal)).toHaveLength(1);
  });
});

describe("refusals", () => {
  test.each(Object.keys(NITRO_ADVICE))("%s is told with its code, its text and advice", async (code) => {
    await bed.misbehave({ "run-enclave": { do: "refuse", code, text: `Text of ${code}.` } });
    const error = await refusal(bed.cli.runEnclave(launch(), signal));
    expect(error.code).toMatch(/^E_NITRO_(?:CLI|MEMORY|CPU|BOOT|ACCESS)$/);
    expect(error.message).toBe(`nitro-cli run-enclave: ${code}: Text of ${code}.`);
    expect(error.hint).toBe(NITRO_ADVICE[code]?.hint);
    expect(error.hint.length).toBeGreaterThan(20);
  });

  test("every documented code has advice", () => {
    const codes = Array.from({ length: 61 }, (_, index) => `E${String(index).padStart(2, "0")}`);
    expect(Object.keys(NITRO_ADVICE)).toEqual(codes);
  });

  test("a code of a newer nitro-cli is told too", () => {
    const error = nitroRefusal("run-enclave", 69, "[ E69 ] Something new.\n");
    expect(error).toMatchObject({
      code: "E_NITRO_CLI",
      message: "nitro-cli run-enclave: E69: Something new.",
    });
    expect(error.hint).toContain("nitro-cli explain --error-code E69");
  });

  test("the cause counts, not the E39 of the process that it ended", async () => {
    const error = await refusal(bed.cli.runEnclave(launch({ memoryMib: 65 }), signal));
    expect(error.code).toBe("E_NITRO_MEMORY");
    expect(error.message).toContain("the minimum memory should be 81 MB");
    expect(nitroRefusal("x", 39, "[ E39 ] Gone.\n").message).toBe("nitro-cli x: E39: Gone.");
  });

  test("memory and CPUs that others have are told", async () => {
    await bed.cli.runEnclave(launch({ memoryMib: 4000 }), signal);
    expect((await refusal(bed.cli.runEnclave(launch({ cpus: { count: 1 } }), signal))).message).toContain(
      "E27",
    );
    expect((await refusal(bed.cli.runEnclave(launch({ memoryMib: 96 }), signal))).message).toContain("E22");
    const strange = launch({ memoryMib: 96, cpus: { ids: [9] } });
    expect((await refusal(bed.cli.runEnclave(strange, signal))).message).toContain("E21");
  });

  test.each([
    ["/dev/nitro_enclaves", "E_NITRO_ACCESS", /usermod -aG ne/],
    ["/var/log/nitro_enclaves/nitro_enclaves.log", "E_NITRO_ACCESS", /usermod -aG ne/],
    ["/sys/module/nitro_enclaves/parameters/ne_cpus", "E_NITRO_CLI", /modprobe nitro_enclaves/],
    ["/home/signer.eif", "E_NITRO_CLI", /pipeline doctor/],
  ])("E19 on %s is advised on by the file", (file, code, hint) => {
    const error = nitroRefusal(
      "run-enclave",
      19,
      `[ E19 ] File operation failure.\nFile: '${file}', failing operation: 'Open'.\n`,
    );
    expect(error.code).toBe(code);
    expect(error.message).toContain(file);
    expect(error.hint).toMatch(hint);
  });

  test("the status tells the code where the text does not", () => {
    expect(nitroRefusal("console", 44, "oh").message).toBe("nitro-cli console: E44: oh");
    expect(nitroRefusal("console", 44, "").message).toBe(
      "nitro-cli console: E44: console connection failure",
    );
    expect(nitroRefusal("console", 200, "").message).toBe(
      "nitro-cli console ended with status 200: it said nothing",
    );
    expect(nitroRefusal("console", null, "a\n\nb\n").message).toBe("nitro-cli console was killed: a / b");
  });

  test("a refusal to terminate an unknown enclave is told", async () => {
    expect((await refusal(bed.cli.terminateEnclave("i-0-enc0", signal))).message).toMatch(
      /^nitro-cli terminate-enclave: E40/,
    );
  });

  test("terminating another enclave than asked for is no success", async () => {
    const other = base64('{"EnclaveID":"i-0-enc1","Terminated":true}');
    await bed.misbehave({ "terminate-enclave": { do: "say", stdout: other } });
    expect((await refusal(bed.cli.terminateEnclave("i-0-enc0", signal))).code).toBe("E_NITRO_CLI");
  });
});

describe("what is not understood", () => {
  test.each([
    ["nothing", ""],
    ["no JSON", "Segmentation fault"],
    ["another shape", "[]"],
    ["half of it", '{"EnclaveID": "i-1-'],
    [
      "an id that is an option",
      '{"EnclaveID":"--all","ProcessID":1,"EnclaveCID":16,"NumberOfCPUs":1,"CPUIDs":[1],"MemoryMiB":64}',
    ],
    [
      "a CID of the host",
      '{"EnclaveID":"i-1-enc2","ProcessID":1,"EnclaveCID":3,"NumberOfCPUs":1,"CPUIDs":[1],"MemoryMiB":64}',
    ],
    ["bytes that are no text", Buffer.from([0xff, 0xfe, 0, 27, 91])],
  ])("%s is refused with its first lines", async (_, bytes) => {
    await bed.misbehave({ "run-enclave": { do: "say", stdout: base64(bytes) } });
    const error = await refusal(bed.cli.runEnclave(launch(), signal));
    expect(error.code).toBe("E_NITRO_OUTPUT");
    expect(error.message).toMatch(/^nitro-cli run-enclave printed /);
    // oxlint-disable-next-line no-control-regex -- they must not be there
    expect(error.message).not.toMatch(/[\u0000-\u001F]/);
  });

  test("output without end is cut off", async () => {
    await bed.misbehave({ "describe-enclaves": { do: "flood" } });
    const error = await refusal(bed.cli.describeEnclaves(signal));
    expect(error.message).toBe("nitro-cli describe-enclaves printed more than 1048576 bytes");
  });

  test("complaints after very much text on stderr still have their status", async () => {
    await bed.misbehave({ "describe-enclaves": { do: "flood", stream: "stderr" } });
    const error = await refusal(bed.cli.describeEnclaves(signal));
    expect(error.message).toMatch(/^nitro-cli describe-enclaves: E27: x{10}/);
    expect(error.message.length).toBeLessThan(500);
  });

  test("any bytes on stdout and stderr with any status give an answer or a KitError", async () => {
    const program = join(bed.folder, "say");
    await writeFile(
      program,
      `#!/bin/sh\ncat '${bed.folder}/out'\ncat '${bed.folder}/err' >&2\nexit "$(cat '${bed.folder}/status')"\n`,
      { mode: 0o755 },
    );
    const cli = new NitroCli({ program, environment: { PATH: "/usr/bin:/bin" } });
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 200 }),
      fc.json().map((text) => Buffer.from(text)),
      fc.string().map((text) => Buffer.from(`[ E${text.slice(0, 2)} ] ${text}\n`)),
    );
    await fc.assert(
      fc.asyncProperty(bytes, bytes, fc.integer({ min: 0, max: 70 }), async (out, err, status) => {
        await writeFile(join(bed.folder, "out"), out);
        await writeFile(join(bed.folder, "err"), err);
        await writeFile(join(bed.folder, "status"), String(status));
        const caught: unknown = await cli.describeEnclaves(signal).catch((error: unknown) => error);
        expect(Array.isArray(caught) || caught instanceof KitError).toBe(true);
        if (status !== 0) expect(caught).toBeInstanceOf(KitError);
      }),
      { numRuns: 100 },
    );
  });
});

describe("time", () => {
  test("a run that hangs ends with its deadline, and is gone", async () => {
    await bed.misbehave({ "run-enclave": { do: "hang" } });
    const error = await refusal(bed.cli.runEnclave(launch({ timeoutMs: 500 }), signal));
    expect(error).toMatchObject({
      code: "E_DEADLINE",
      message: "nitro-cli run-enclave did not end within 1 s",
    });
    const [call] = await bed.calls();
    expect(() => process.kill(call?.pid ?? 0, 0)).toThrow(/ESRCH/);
  });

  test("an abort ends a run with the reason of the signal", async () => {
    await bed.misbehave({ "describe-enclaves": { do: "hang" } });
    const controller = new AbortController();
    const asking = bed.cli.describeEnclaves(controller.signal);
    await until("it runs", async () => (await bed.calls())[0]);
    controller.abort(new KitError("E_CANCELLED", "enough"));
    expect((await refusal(asking)).message).toBe("enough");
  });

  test("an aborted signal starts nothing", async () => {
    await expect(bed.cli.describeEnclaves(AbortSignal.abort(new Error("no")))).rejects.toThrow("no");
    expect(await bed.calls()).toEqual([]);
  });

  test("a slow start is waited for", async () => {
    await bed.misbehave({ "run-enclave": { do: "slow", ms: 700 } });
    expect((await bed.cli.runEnclave(launch(), signal)).EnclaveCID).toBe(16);
  });

  test("a descendant that keeps the pipes open does not keep the answer", async () => {
    await bed.misbehave({ "describe-enclaves": { do: "leaky" } });
    expect(await bed.cli.describeEnclaves(signal)).toEqual([]);
  });
});
