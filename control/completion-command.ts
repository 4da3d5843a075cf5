import { Argument, Command } from "commander";

import type { Terminal } from "../core/terminal.ts";

const SHELLS = ["bash", "zsh", "fish"] as const;

/** For both programs: it completes what `program` has. */
export function createCompletionCommand(
  getContext: () => { readonly terminal: Terminal },
  program: Command,
): Command {
  const name = program.name();
  return new Command("completion")
    .description("print a completion script for a shell")
    .addArgument(new Argument("<shell>", "the shell").choices(SHELLS))
    .addHelpText(
      "after",
      `\nExamples:\n  source <(${name} completion bash)\n  ${name} completion fish > ~/.config/fish/completions/${name}.fish`,
    )
    .action((shell: string) => getContext().terminal.print(renderCompletion(shell, program)));
}

/** A script that completes commands and their options, from the commands as they are. */
function renderCompletion(shell: string, program: Command): string {
  const commands = program.commands.map((command) => ({
    name: command.name(),
    description: command.description().replaceAll("'", ""),
    options: command.options.flatMap((option) => option.long ?? []),
  }));
  const names = commands.map((command) => command.name).join(" ");
  if (shell === "fish") {
    const lines = commands.flatMap(({ name, description, options }) => [
      `complete -c ${program.name()} -n __fish_use_subcommand -f -a ${name} -d '${description}'`,
      ...options.map(
        (option) =>
          `complete -c ${program.name()} -n '__fish_seen_subcommand_from ${name}' -l ${option.slice(2)}`,
      ),
    ]);
    return lines.join("\n");
  }
  const cases = commands
    .map(({ name, options }) => `    ${name}) words="${options.join(" ")}" ;;`)
    .join("\n");
  const script = `_${program.name()}() {
  local words="${names}" command=""
  [ "$COMP_CWORD" -gt 1 ] && command="\${COMP_WORDS[1]}"
  case "$command" in
${cases}
  esac
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
  return 0
}
complete -o default -F _${program.name()} ${program.name()}`;
  return shell === "zsh" ? `autoload -U +X bashcompinit && bashcompinit\n${script}` : script;
}
