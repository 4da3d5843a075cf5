import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { loadEnclaveSpec } from "../../host/config/load-spec.ts";
import { openTestbed, ROOT, runCommand, type Testbed } from "../e2e/testbed.ts";

let bed: Testbed;
let directory: string;
beforeAll(async () => {
  bed = await openTestbed();
  directory = await mkdtemp(join(tmpdir(), "cli-"));
});
afterAll(async () => {
  await bed[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

describe("misuse", () => {
  test.each([
    ["an unknown command", ["valdate", "x"], 2, /E_USAGE[\s\S]*did you mean validate/i],
    ["an unknown option", ["ps", "--al"], 2, /E_USAGE[\s\S]*--all/],
    ["a missing argument", ["up"], 2, /E_USAGE.*file/],
    ["a bad duration", ["up", "x.yaml", "--timeout", "soon"], 2, /E_USAGE.*duration/],
    ["a bad port", ["up", "x.yaml", "-p", "http"], 2, /E_USAGE.*127\.0\.0\.1:8080:80/],
    ["down without a name", ["down"], 2, /E_USAGE.*--all/],
    ["a file that is not there", ["up", "/no/such.yaml"], 5, /E_CONFIG_NOT_FOUND/],
    ["an enclave that is not there", ["status", "nobody"], 5, /E_HOST_NOT_FOUND/],
    ["logs of nobody", ["logs", "nobody"], 5, /E_HOST_NOT_FOUND/],
    [
      "another backend",
      ["up", join(ROOT, "examples/hello/enclave.yaml"), "--backend", "xen"],
      2,
      /E_USAGE.*local, qemu, nitro/,
    ],
    [
      "the hardware without its program",
      ["up", join(ROOT, "examples/hello/enclave.yaml"), "--backend", "nitro"],
      7,
      /E_NITRO_MISSING.*nitro-cli/,
    ],
    [
      "debug mode without hardware",
      ["up", join(ROOT, "examples/hello/enclave.yaml"), "--debug-mode"],
      2,
      /E_USAGE.*--backend nitro/,
    ],
    [
      "a port that the image does not publish",
      ["up", join(ROOT, "examples/hello/enclave.yaml"), "-d", "-p", "1:22"],
      2,
      /E_CONFIG_PORT.*22/,
    ],
  ])("%s", async (_title, words, status, message) => {
    const result = await bed.run(...words);
    expect(result.stderr).toMatch(message);
    expect(result.stderr).toContain("hint: ");
    expect(result.status).toBe(status);
    expect(result.stdout).toBe("");
  });

  test("with --json the refusal is an object on stdout", async () => {
    const result = await bed.run("status", "nobody", "--json");
    expect(JSON.parse(result.stdout)).toMatchObject({
      error: { code: "E_HOST_NOT_FOUND", hint: expect.any(String) },
    });
  });
});

test("every command has help with examples, and the whole has a version", async () => {
  const help = await bed.succeed("--help");
  const commands = [...help.matchAll(/^ {2}([a-z]+) .*/gm)]
    .map((match) => match[1] ?? "")
    .filter((name) => name !== "help" && name !== "pipeline");
  expect(commands).toEqual(
    expect.arrayContaining([
      "init",
      "validate",
      "up",
      "ps",
      "status",
      "logs",
      "console",
      "events",
      "stats",
      "exec",
      "attach",
      "cp",
      "stop",
      "down",
      "doctor",
      "completion",
    ]),
  );
  for (const command of new Set(commands))
    expect(await bed.succeed(command, "--help"), command).toContain("Examples:");
  const packageJson = await readFile(join(ROOT, "package.json"), "utf8");
  expect(packageJson).toContain(`"version": "${(await bed.succeed("--version")).trim()}"`);
});

test("validate says yes, or where not", async () => {
  expect(await bed.succeed("validate", join(ROOT, "examples/counter/enclave.yaml"))).toMatch(
    /is valid: counter/,
  );
  const path = join(directory, "bad.yaml");
  await writeFile(
    path,
    "name: x\nmode: development\nimage: { base: host }\nservices: { a: { comand: [x] } }\n",
  );
  const result = await bed.run("validate", path);
  expect(result.status).toBe(2);
  expect(result.stderr).toMatch(/bad\.yaml:4:18: services\.a\.comand: unknown key; did you mean "command"\?/);
});

test("init writes a valid project, and overwrites nothing", async () => {
  await bed.succeed("init", join(directory, "My Signer"));
  const spec = await loadEnclaveSpec(join(directory, "My Signer", "enclave.yaml"));
  expect(spec.name).toBe("my-signer");
  const again = await bed.run("init", join(directory, "My Signer"));
  expect(again.status).toBe(6);
  expect(again.stderr).toContain("E_HOST_EXISTS");
});

test("doctor checks the machine", async () => {
  const doctor = await bed.run("doctor", "--json");
  expect(JSON.parse(doctor.stdout)).toEqual(
    expect.arrayContaining([
      expect.objectContaining({ check: "user namespaces", result: "ok" }),
      expect.objectContaining({ check: "sandbox", result: "ok" }),
      expect.objectContaining({ check: "node", result: "ok" }),
    ]),
  );
  expect(doctor.status).toBe(0);
});

test("the completion script completes commands and options in a real shell", async () => {
  const script = await bed.succeed("completion", "bash");
  const complete = async (...words: string[]): Promise<string[]> => {
    const list = words.map((word) => `'${word}'`).join(" ");
    const shell = `${script}\nCOMP_WORDS=(pipeline ${list}); COMP_CWORD=${words.length}; _pipeline; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const { stdout } = await runCommand(["bash", "-c", shell]);
    return stdout.trim().split("\n");
  };
  expect(await complete("st")).toEqual(["status", "stats", "stop"]);
  expect(await complete("logs", "--ta")).toEqual(["--tail"]);
});
