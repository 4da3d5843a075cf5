import { copyFile, mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { RUNTIME } from "../../wire/runtime-layout.ts";
import { execute } from "./execution.ts";
import { openSandbox, openWorkshop, type Sandbox, type Workshop } from "./sandbox.ts";

let workshop: Workshop;
beforeAll(async () => {
  workshop = await openWorkshop();
});
afterAll(() => workshop[Symbol.asyncDispose]());

/** Starts initctl in an image as init would start a supervisor; whoever it becomes shows its arguments. */
async function showArguments(becomes: string): Promise<readonly string[]> {
  const place = async (sandbox: Sandbox): Promise<void> => {
    for (const [from, to] of [
      [workshop.initctl, RUNTIME.initctlProgram],
      [workshop.agent, becomes],
    ] as const) {
      await mkdir(dirname(join(sandbox.tree, to)), { recursive: true });
      await copyFile(from, join(sandbox.tree, to));
    }
  };
  await using sandbox = await openSandbox({
    workshop,
    as: "ordinary",
    supervisor: [RUNTIME.initctlProgram, "status", "two words", "", "--x=ü"],
    prepare: place,
  });
  return (await (await sandbox.nextAgent()).ask("arguments")).split("\n").slice(0, -1);
}

const GIVEN = ["status", "two words", "", "--x=ü", "--generation", "1", "--previous-exit", "none"];

describe("initctl inside an enclave", () => {
  test("becomes the runtime's Node, through the runtime's own loader", async () => {
    const { loader, libraries, node, initctl } = RUNTIME;
    expect(await showArguments(loader)).toEqual([
      loader,
      "--library-path",
      libraries,
      "--argv0",
      "initctl",
      node,
      initctl,
      ...GIVEN,
    ]);
  });

  test("becomes Node directly where the runtime has no loader", async () => {
    expect(await showArguments(RUNTIME.node)).toEqual([RUNTIME.node, RUNTIME.initctl, ...GIVEN]);
  });

  test("says that there is no Node", async () => {
    expect(await execute(workshop.initctl, ["status"])).toMatchObject({
      code: 127,
      stdout: "",
      stderr: `initctl: cannot execute ${RUNTIME.node}: No such file or directory\n`,
    });
  });
});
