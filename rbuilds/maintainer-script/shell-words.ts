/**
 * The words of a shell script, for reading maintainer scripts that are never executed. It knows quotes, backslashes,
 * comments, redirections, here-documents and where a command ends; it does not know control flow, and what needs the
 * shell to be known (command substitution, positional parameters, patterns) is marked as dynamic. Any text is read to
 * its end: what is no shell gives words without meaning, never an error.
 */

/** A piece of a word: its text, the name of a variable, or something only a shell can know. */
export type WordPart =
  | { readonly kind: "text"; readonly text: string; readonly quoted: boolean }
  | { readonly kind: "variable"; readonly name: string; readonly fallback: string; readonly quoted: boolean }
  | { readonly kind: "dynamic" };

export type ShellWord = readonly WordPart[];
export type ShellCommand = readonly ShellWord[];

/** Scripts longer than this are cut; Debian's longest is about 60 KB. */
export const MAX_SCRIPT_CHARACTERS = 1024 * 1024;

const NAME = /[A-Za-z_][A-Za-z0-9_]*/y;
const BRACED = /\{([A-Za-z_][A-Za-z0-9_]*)(?::?-([^{}$`"'\\]*))?\}/y;

/** Every simple command of the script, in order, with the words that a shell would give it before expansion. */
export function readShellCommands(script: string): readonly ShellCommand[] {
  return new Reader(script.slice(0, MAX_SCRIPT_CHARACTERS)).read();
}

class Reader {
  readonly #text: string;
  readonly #commands: ShellCommand[] = [];
  #at = 0;
  #command: ShellWord[] = [];
  #word: WordPart[] | undefined;
  /** The next word is the file of a redirection: "skip", or the end mark of a here-document. */
  #redirect: "none" | "file" | "document" = "none";
  #documents: string[] = [];

  constructor(text: string) {
    this.#text = text;
  }

  read(): readonly ShellCommand[] {
    while (this.#at < this.#text.length) this.#step(this.#text.charAt(this.#at));
    this.#endCommand();
    return this.#commands;
  }

  #step(char: string): void {
    if (char === " " || char === "\t" || char === "\r") this.#separate();
    else if (char === "\n") this.#newline();
    else if (char === "#" && this.#word === undefined) this.#skipTo("\n");
    else if (";&|()".includes(char)) this.#operator();
    else if (char === "<" || char === ">") this.#redirection(char);
    else this.#wordCharacter(char);
  }

  #wordCharacter(char: string): void {
    this.#at += 1;
    if (char === "\\") this.#escape();
    else if (char === "'") this.#singleQuotes();
    else if (char === '"') this.#doubleQuotes();
    else if (char === "$") this.#dollar(false);
    else if (char === "`") this.#backquote();
    else this.#add({ kind: "text", text: char, quoted: false });
  }

  #add(part: WordPart): void {
    this.#word ??= [];
    const last = this.#word.at(-1);
    const joins = last?.kind === "text" && part.kind === "text" && last.quoted === part.quoted;
    if (joins) this.#word[this.#word.length - 1] = { ...last, text: last.text + part.text };
    else this.#word.push(part);
  }

  #separate(): void {
    this.#at += 1;
    this.#endWord();
  }

  #operator(): void {
    this.#at += 1;
    this.#endCommand();
  }

  #newline(): void {
    this.#at += 1;
    this.#endCommand();
    for (const mark of this.#documents.splice(0)) this.#skipDocument(mark);
  }

  #skipDocument(mark: string): void {
    while (this.#at < this.#text.length) {
      const end = this.#lineEnd();
      const line = this.#text.slice(this.#at, end).replace(/^\t+/, "");
      this.#at = end + 1;
      if (line === mark) return;
    }
  }

  #lineEnd(): number {
    const end = this.#text.indexOf("\n", this.#at);
    return end < 0 ? this.#text.length : end;
  }

  #skipTo(mark: string): void {
    const end = this.#text.indexOf(mark, this.#at);
    this.#at = end < 0 ? this.#text.length : end;
  }

  /** `2>` belongs to the redirection, `<<` begins a document, `>&` and `>|` are one operator. */
  #redirection(char: string): void {
    const isDescriptor = this.#word?.length === 1 && /^[0-9]$/.test(textOf(this.#word));
    if (isDescriptor) this.#word = undefined;
    this.#endWord();
    this.#at += 1;
    const isDocument = char === "<" && this.#text.charAt(this.#at) === "<";
    while (isDocument ? "<-".includes(this.#next()) : ">&|".includes(this.#next())) this.#at += 1;
    this.#redirect = isDocument ? "document" : "file";
  }

  /** The character at hand; a newline at the end of the text, so that loops end. */
  #next(): string {
    return this.#text.charAt(this.#at) || "\n";
  }

  #escape(): void {
    const char = this.#text.charAt(this.#at);
    this.#at += 1;
    if (char !== "\n") this.#add({ kind: "text", text: char, quoted: true });
  }

  #singleQuotes(): void {
    const start = this.#at;
    this.#skipTo("'");
    this.#add({ kind: "text", text: this.#text.slice(start, this.#at), quoted: true });
    this.#at += 1;
  }

  #doubleQuotes(): void {
    this.#add({ kind: "text", text: "", quoted: true });
    while (this.#at < this.#text.length) {
      const char = this.#text.charAt(this.#at);
      this.#at += 1;
      if (char === '"') return;
      if (char === "$") this.#dollar(true);
      else if (char === "`") this.#backquote();
      else if (char === "\\" && '$`"\\\n'.includes(this.#next())) this.#escape();
      else this.#add({ kind: "text", text: char, quoted: true });
    }
  }

  #dollar(quoted: boolean): void {
    const braced = this.#match(BRACED);
    if (braced !== undefined) {
      return this.#add({ kind: "variable", name: braced[1] ?? "", fallback: braced[2] ?? "", quoted });
    }
    const plain = this.#match(NAME);
    if (plain !== undefined) return this.#add({ kind: "variable", name: plain[0], fallback: "", quoted });
    this.#add({ kind: "dynamic" });
    const char = this.#next();
    if (char === "(") this.#skipNested("(", ")");
    else if (char === "{") this.#skipNested("{", "}");
    else if (/[0-9@*#?$!-]/.test(char)) this.#at += 1;
  }

  #match(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.#text);
    if (match !== null) this.#at = pattern.lastIndex;
    return match ?? undefined;
  }

  #skipNested(opening: string, closing: string): void {
    let depth = 0;
    while (this.#at < this.#text.length) {
      const char = this.#text.charAt(this.#at);
      this.#at += 1;
      if (char === opening) depth += 1;
      else if (char === closing) depth -= 1;
      if (depth === 0) return;
    }
  }

  #backquote(): void {
    this.#skipTo("`");
    this.#at += 1;
    this.#add({ kind: "dynamic" });
  }

  #endWord(): void {
    const word = this.#word;
    this.#word = undefined;
    if (word === undefined) return;
    if (this.#redirect === "document") this.#documents.push(textOf(word));
    else if (this.#redirect === "none") this.#command.push(word);
    this.#redirect = "none";
  }

  #endCommand(): void {
    this.#endWord();
    this.#redirect = "none";
    if (this.#command.length > 0) this.#commands.push(this.#command);
    this.#command = [];
  }
}

function textOf(word: ShellWord): string {
  return word.map((part) => (part.kind === "text" ? part.text : "")).join("");
}
