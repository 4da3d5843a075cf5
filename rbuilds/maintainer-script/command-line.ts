import type { ScriptWord } from "./script-commands.ts";

/** Options of one program; all others make a command line unknown. */
export interface OptionTable {
  /** With a value: `--home DIR`, `--home=DIR`, `-dDIR`, `-d DIR`. */
  readonly values: readonly string[];
  readonly flags: readonly string[];
}

export interface CommandLine {
  readonly positional: readonly string[];
  readonly has: (...names: string[]) => boolean;
  /** Of the first of `names` that is given. */
  readonly value: (...names: string[]) => string | undefined;
  /** As value, if it is a decimal number. */
  readonly number: (...names: string[]) => number | undefined;
}

/** @returns undefined if an option is not in the table or a word is not known. */
export function parseCommandLine(words: readonly ScriptWord[], table: OptionTable): CommandLine | undefined {
  const flags = new Set<string>();
  const values = new Map<string, string>();
  const positional: string[] = [];
  const queue = words.flatMap((word) => separate(word, table));
  for (let word = queue.shift(); word !== undefined; word = queue.shift()) {
    if (word.kind === "text") positional.push(word.text);
    else if (word.kind === "flag") flags.add(word.text);
    else if (word.kind === "option") {
      const value = queue.shift();
      const text = value === undefined || value.kind === "unknown" ? undefined : value.text;
      // A comment may hold anything and decides nothing.
      if (text === undefined && !/^(?:--gecos|--comment|-c)$/.test(word.text)) return undefined;
      values.set(word.text, text ?? "");
    } else return undefined;
  }
  return commandLine(positional, flags, values);
}

type Piece =
  { readonly kind: "text" | "flag" | "option"; readonly text: string } | { readonly kind: "unknown" };

/** Takes `--name=value`, `-mVALUE` and `-aG` apart. */
function separate(word: ScriptWord, table: OptionTable): Piece[] {
  if (word === undefined) return [{ kind: "unknown" }];
  if (word === "--") return [];
  if (!word.startsWith("-") || word === "-") return [{ kind: "text", text: word }];
  if (table.flags.includes(word)) return [{ kind: "flag", text: word }];
  if (table.values.includes(word)) return [{ kind: "option", text: word }];
  if (!word.startsWith("--")) return separateLetters(word, table);
  const [name = "", ...rest] = word.split("=");
  if (rest.length === 0 || !table.values.includes(name)) return [{ kind: "unknown" }];
  return [
    { kind: "option", text: name },
    { kind: "text", text: rest.join("=") },
  ];
}

function separateLetters(word: string, table: OptionTable): Piece[] {
  const pieces: Piece[] = [];
  for (let index = 1; index < word.length; index += 1) {
    const letter = `-${word.charAt(index)}`;
    if (table.values.includes(letter)) {
      pieces.push({ kind: "option", text: letter });
      if (index + 1 < word.length) pieces.push({ kind: "text", text: word.slice(index + 1) });
      return pieces;
    }
    pieces.push(table.flags.includes(letter) ? { kind: "flag", text: letter } : { kind: "unknown" });
  }
  return pieces;
}

function commandLine(
  positional: readonly string[],
  flags: ReadonlySet<string>,
  values: ReadonlyMap<string, string>,
): CommandLine {
  const value = (...names: string[]): string | undefined =>
    names.map((name) => values.get(name)).find((each) => each !== undefined);
  return {
    positional,
    has: (...names) => names.some((name) => flags.has(name)),
    value,
    number: (...names) => {
      const text = value(...names);
      return text !== undefined && /^\d{1,9}$/.test(text) ? Number(text) : undefined;
    },
  };
}
