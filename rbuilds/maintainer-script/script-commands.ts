/**
 * The commands of a maintainer script with their variables filled in, as far as literal assignments tell. Control flow
 * is ignored: a script that does something for any reason is read as doing it, which for a first installation of
 * accounts and owners is what happens.
 */
import { basename } from "node:path/posix";
import { readShellCommands, type ShellCommand, type ShellWord } from "./shell-words.ts";

/** A word, or undefined where only a shell could know it. */
export type ScriptWord = string | undefined;

export interface ScriptCommand {
  /** The program's name without its folder. */
  readonly program: string;
  readonly args: readonly ScriptWord[];
}

const RESERVED = new Set([
  "if",
  "then",
  "else",
  "elif",
  "do",
  "while",
  "until",
  "!",
  "{",
  "}",
  "time",
  "exec",
]);
const DECLARING = new Set(["export", "readonly", "local"]);
/** A longer word is taken as unknown. */
const MAX_WORD_CHARACTERS = 4096;
const PATTERN = /[*?[]/;

/** Every command of the script whose program is known, in order. */
export function readScriptCommands(script: string): readonly ScriptCommand[] {
  const commands = readShellCommands(script).map(withoutReserved);
  const resolver = new Resolver(readVariables(commands));
  return commands.flatMap((command) => {
    const [program, ...args] = withoutAssignments(command).flatMap((word) => expand(word, resolver));
    return program === undefined ? [] : [{ program: basename(program), args }];
  });
}

function withoutReserved(command: ShellCommand): ShellCommand {
  const start = command.findIndex((word) => !RESERVED.has(literal(word) ?? ""));
  return start < 0 ? [] : command.slice(start);
}

function withoutAssignments(command: ShellCommand): ShellCommand {
  const start = command.findIndex((word) => assignmentOf(word) === undefined);
  return start < 0 ? [] : command.slice(start);
}

/** Every value that a variable is ever given. */
type Variables = ReadonlyMap<string, readonly ShellWord[]>;

function readVariables(commands: readonly ShellCommand[]): Variables {
  const variables = new Map<string, ShellWord[]>([["DPKG_ROOT", []]]);
  const add = (name: string, value: ShellWord): void => {
    variables.set(name, [...(variables.get(name) ?? []), value]);
  };
  for (const command of commands) {
    for (const { name, value } of assignmentsOf(command)) add(name, value);
    const [first, name] = command;
    if (first !== undefined && literal(first) === "for" && name !== undefined) {
      for (const value of command.slice(3)) add(literal(name) ?? "", value);
    }
    if (first !== undefined && literal(first) === "read") {
      for (const each of command.slice(1)) add(literal(each) ?? "", [{ kind: "dynamic" }]);
    }
  }
  return variables;
}

interface Assignment {
  readonly name: string;
  readonly value: ShellWord;
}

/** Only of a command that is nothing else: `A=1 program` sets A for that program alone. */
function assignmentsOf(command: ShellCommand): readonly Assignment[] {
  const [first, ...others] = command;
  if (first === undefined) return [];
  const words = DECLARING.has(literal(first) ?? "") ? others : command;
  const assignments = words.map(assignmentOf);
  return assignments.every((each) => each !== undefined) ? assignments : [];
}

function assignmentOf(word: ShellWord): Assignment | undefined {
  const [first, ...others] = word;
  if (first?.kind !== "text" || first.quoted) return undefined;
  const match = /^([A-Za-z_][A-Za-z0-9_]*)=(.*)$/s.exec(first.text);
  if (match === null) return undefined;
  // A value is not split into words, so it counts as quoted.
  const [, name = "", text = ""] = match;
  const value = [{ kind: "text", text, quoted: true } as const, ...others.map(asQuoted)];
  return { name, value };
}

function asQuoted(part: ShellWord[number]): ShellWord[number] {
  return part.kind === "dynamic" ? part : { ...part, quoted: true };
}

/** The text of a word without variables. */
function literal(word: ShellWord): string | undefined {
  const texts = word.map((part) => (part.kind === "text" ? part.text : undefined));
  return texts.includes(undefined) ? undefined : texts.join("");
}

/** No word for an unquoted variable that is empty, several for one with spaces. */
function expand(word: ShellWord, resolver: Resolver): readonly ScriptWord[] {
  const isPattern = word.some((part) => part.kind === "text" && !part.quoted && PATTERN.test(part.text));
  const text = isPattern ? undefined : resolver.word(word);
  if (text === undefined) return [undefined];
  const isQuoted = word.some((part) => part.kind !== "dynamic" && part.quoted);
  const hasVariable = word.some((part) => part.kind === "variable");
  return isQuoted || !hasVariable ? [text] : text.split(/\s+/).filter((each) => each !== "");
}

/** Fills in variables; each is worked out once, and one that needs itself is unknown. */
class Resolver {
  readonly #variables: Variables;
  readonly #known = new Map<string, ScriptWord>();

  constructor(variables: Variables) {
    this.#variables = variables;
  }

  word(word: ShellWord): ScriptWord {
    let text = "";
    for (const part of word) {
      const value = this.#part(part);
      if (value === undefined || text.length + value.length > MAX_WORD_CHARACTERS) return undefined;
      text += value;
    }
    return text;
  }

  #part(part: ShellWord[number]): ScriptWord {
    if (part.kind === "text") return part.text;
    if (part.kind === "dynamic") return undefined;
    if (!this.#variables.has(part.name)) return part.fallback === "" ? undefined : part.fallback;
    const value = this.#variable(part.name);
    return value === "" ? part.fallback : value;
  }

  /** The one value that a variable has where it is not empty; undefined if it has several, or one we cannot know. */
  #variable(name: string): ScriptWord {
    if (this.#known.has(name)) return this.#known.get(name);
    this.#known.set(name, undefined);
    const values = (this.#variables.get(name) ?? []).map((word) => this.word(word));
    const distinct = new Set(values.filter((value) => value !== ""));
    const [value = ""] = distinct;
    const single = values.includes(undefined) || distinct.size > 1 ? undefined : value;
    this.#known.set(name, single);
    return single;
  }
}
