import { access } from "node:fs/promises";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { execute } from "./execution.ts";
import { isRoot, openWorkshop, type Workshop } from "./sandbox.ts";

let workshop: Workshop;
beforeAll(async () => {
  workshop = await openWorkshop();
});
afterAll(() => workshop[Symbol.asyncDispose]());

const GOOD = ["--uid", "64003", "--gid", "64003", "--owner", "64002:64004"];
const without = (option: string): string[] => GOOD.toSpliced(GOOD.indexOf(option), 2);
const REQUIRED = "--uid and --gid are required, and are not root's";

describe("the program behind /dev/nsm", () => {
  test.each([
    [[], REQUIRED],
    [without("--uid"), REQUIRED],
    [without("--gid"), REQUIRED],
    [[...without("--uid"), "--uid", "0"], REQUIRED],
    [[...GOOD, "--gid", "0"], REQUIRED],
    [without("--owner"), "--owner is required"],
    [[...GOOD, "--uid", "-1"], "--uid is not a number"],
    [[...GOOD, "--uid", "4294967295"], "--uid is not a number"],
    [[...GOOD, "--gid", ""], "--gid is not a number"],
    [[...GOOD, "--owner", "64002"], "--owner is not UID:GID"],
    [[...GOOD, "--owner", "64002:"], "--owner is not UID:GID"],
    [[...GOOD, "--owner", ":64004"], "--owner is not UID:GID"],
    [[...GOOD, "--owner", "1:2:3"], "--owner is not UID:GID"],
    [[...GOOD, "--timeout-ms", "0"], "--timeout-ms is not a number from 1 to 120000"],
    [[...GOOD, "--timeout-ms", "120001"], "--timeout-ms is not a number from 1 to 120000"],
    [[...GOOD, "--timeout-ms"], "option without a value"],
    [[...GOOD, "--device", "/dev/nsm"], "unknown option"],
    [[...GOOD, "nsm", "nsm"], "unknown option"],
  ])("is not started by %j", async (words, reason) => {
    expect(await run(words)).toEqual({ code: 2, stdout: "", stderr: `nsm-device: ${reason}\n` });
  });

  test("ends with the reason where there is no CUSE", async (context) => {
    const hasCuse = await access("/dev/cuse").then(
      () => true,
      () => false,
    );
    if (hasCuse && isRoot) context.skip("this machine has CUSE, and would get a device");
    const stderr = `nsm-device: /dev/cuse: ${hasCuse ? "EACCES" : "ENOENT"}\n`;
    expect(await run(GOOD)).toEqual({ code: 1, stdout: "", stderr });
  });
});

async function run(words: readonly string[]) {
  const { code, stdout, stderr } = await execute(workshop.nsmDevice, words, { errorPipe: false });
  return { code, stdout, stderr };
}
