import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Command } from "commander";
import { expect, test } from "vitest";

import { createInitctlProgram } from "../../control/initctl-program.ts";
import { createProgram } from "../../host/cli/program.ts";
import { ROOT } from "../e2e/testbed.ts";

const getContext = (): never => {
  throw new Error("no command is run here");
};
const PROGRAMS: Readonly<Record<string, Command>> = {
  pipeline: createProgram({ version: "0", getContext }),
  initctl: createInitctlProgram({ version: "0", getContext, isHost: true }),
};

/** Command lines of docs/commands.md as words, without what belongs to a command of `exec`. */
async function documented(): Promise<string[][]> {
  const text = await readFile(join(ROOT, "docs", "commands.md"), "utf8");
  const blocks = [...text.matchAll(/```sh\n(.*?)```/gs)].flatMap((match) =>
    (match[1] ?? "").trim().split("\n"),
  );
  return blocks.map((line) => (line.split(/ {2,}#| \| | -- /)[0] ?? "").trim().split(" "));
}

test("every command line of docs/commands.md has a command and options that exist", async () => {
  const lines = await documented();
  expect(lines.length).toBeGreaterThan(30);
  for (const [name = "", verb = "", ...words] of lines) {
    const program = PROGRAMS[name];
    const command = program?.commands.find((one) => one.name() === verb);
    expect(command, `${name} ${verb}`).toBeDefined();
    const inner = command?.commands.find((one) => one.name() === words[0]);
    const options = [program, command, inner].flatMap((one) => one?.options ?? []);
    const known = options.flatMap(({ short, long }) => [short, long]);
    const used = words
      .filter((word) => /^--?[a-z]/.test(word))
      .flatMap((word) => (word === "-it" ? ["-i", "-t"] : [word]));
    for (const word of used) expect(known, `${name} ${verb}`).toContain(word);
  }
});

test("every command is in docs/commands.md", async () => {
  const lines = await documented();
  for (const [name, program] of Object.entries(PROGRAMS)) {
    const shown = new Set(lines.filter(([first]) => first === name).map(([, verb]) => verb));
    expect(program.commands.map((command) => command.name()).filter((verb) => !shown.has(verb))).toEqual([]);
  }
});
