/** `update-alternatives --install LINK NAME PATH PRIORITY [--slave LINK NAME PATH]...` of a maintainer script. */
import type { ScriptCommand, ScriptWord } from "./script-commands.ts";

export interface AlternativeLink {
  /** The generic name, such as /usr/bin/awk. */
  readonly link: string;
  /** Below /etc/alternatives. */
  readonly name: string;
  readonly path: string;
}

export interface Alternative extends AlternativeLink {
  /** The highest wins. */
  readonly priority: number;
  readonly slaves: readonly AlternativeLink[];
}

const NAME = /^[A-Za-z0-9_.+-]{1,128}$/;

/** All alternatives that are registered with literal arguments. */
export function readAlternativeCommands(commands: readonly ScriptCommand[]): readonly Alternative[] {
  return commands.flatMap((command) => {
    if (command.program !== "update-alternatives") return [];
    const start = command.args.indexOf("--install");
    return start < 0 ? [] : (parseInstall(command.args.slice(start + 1)) ?? []);
  });
}

function parseInstall(words: readonly ScriptWord[]): Alternative[] | undefined {
  const main = parseLink(words);
  const priority = Number(words[3] ?? Number.NaN);
  if (main === undefined || !Number.isSafeInteger(priority)) return undefined;
  const slaves: AlternativeLink[] = [];
  for (let index = 4; index < words.length; index += 4) {
    const slave = words[index] === "--slave" ? parseLink(words.slice(index + 1)) : undefined;
    if (slave === undefined) return undefined;
    slaves.push(slave);
  }
  return [{ ...main, priority, slaves }];
}

function parseLink(words: readonly ScriptWord[]): AlternativeLink | undefined {
  const [link, name, path] = words;
  if (link === undefined || name === undefined || path === undefined) return undefined;
  return link.startsWith("/") && path.startsWith("/") && NAME.test(name) ? { link, name, path } : undefined;
}
