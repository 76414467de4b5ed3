// torchbrush completion: scripts for shells, made from the tree of commands, so that they never lag
// behind it.
import { type Command, InvalidArgumentError as CommanderArgumentError } from 'commander';

interface Flag {
  long: string;
  short: string | undefined;
  description: string;
  takesValue: boolean;
  choices: readonly string[];
}

interface CompletedCommand {
  name: string;
  description: string;
  flags: Flag[];
  /** What its argument may be, where that is one of a few. */
  choices: readonly string[];
}

const shells = ['bash', 'zsh', 'fish'] as const;

export function addCompletion(program: Command): void {
  program
    .command('completion')
    .description('Print a completion script for a shell.')
    .argument('<shell>', shells.join(', '), (value) => {
      const shell = shells.find((one) => one === value);
      if (shell !== undefined) return shell;
      throw new CommanderArgumentError(`Expected ${shells.join(', ')}.`);
    })
    .addHelpText(
      'after',
      `
Examples:
  torchbrush completion bash >> ~/.bashrc
  torchbrush completion zsh > "\${fpath[1]}/_torchbrush"
  torchbrush completion fish > ~/.config/fish/completions/torchbrush.fish`,
    )
    .action((shell: (typeof shells)[number]) => {
      process.stdout.write(writers[shell](commandsOf(program)));
    });
}

function commandsOf(program: Command): CompletedCommand[] {
  return program.commands.map((command) => ({
    name: command.name(),
    description: command.description(),
    choices: command.name() === 'completion' ? shells : [],
    flags: [
      ...command.options
        .filter(({ hidden }) => !hidden)
        .map(({ long, short, description, required, argChoices }) => ({
          long: long ?? '',
          short,
          description: firstPart(description),
          takesValue: required,
          choices: argChoices ?? [],
        })),
      { long: '--help', short: '-h', description: 'print help', takesValue: false, choices: [] },
    ],
  }));
}

/** Descriptions stand in one line beside the flag. */
function firstPart(description: string): string {
  return (description.split(/[:;(]/)[0] ?? '').trim();
}

const writers: Record<(typeof shells)[number], (commands: CompletedCommand[]) => string> = {
  bash: (commands) => {
    const cases = commands.flatMap(({ name, flags, choices }) => [
      ...flags
        .filter((flag) => flag.choices.length > 0)
        .map((flag) => `    ${name}:${flag.long}) words="${flag.choices.join(' ')}" ;;`),
      ...flags
        .filter((flag) => flag.takesValue && flag.choices.length === 0)
        .map(({ long, short }) => {
          const names = short === undefined ? [long] : [long, short];
          return `    ${names.map((one) => `${name}:${one}`).join('|')}) COMPREPLY=($(compgen -f -- "$current")); return ;;`;
        }),
      `    ${name}:*)
      case $current in
        -*) words="${flags.map(({ long }) => long).join(' ')}" ;;
        *) ${choices.length > 0 ? `words="${choices.join(' ')}"` : 'COMPREPLY=($(compgen -f -- "$current")); return'} ;;
      esac ;;`,
    ]);
    return `# Completion of torchbrush for bash.
_torchbrush() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD-1]}
  local command=\${COMP_WORDS[1]} words=
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "${commands.map(({ name }) => name).join(' ')} help --help --version" -- "$current"))
    return
  fi
  case $command:$previous in
${cases.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o filenames -F _torchbrush torchbrush
`;
  },
  zsh: (commands) => {
    const quoted = (text: string) =>
      text.replaceAll(/[[\]:\\']/g, (sign) => (sign === "'" ? "'\\''" : `\\${sign}`));
    const entries = commands.map(({ name, description }) => `    '${name}:${quoted(description)}'`);
    const cases = commands.map(({ name, flags, choices }) => {
      const specs = flags.map(({ long, description, takesValue, choices: values }) => {
        const action = values.length > 0 ? `(${values.join(' ')})` : '_files';
        return `'*${long}[${quoted(description)}]${takesValue ? `:value:${action}` : ''}'`;
      });
      const rest = choices.length > 0 ? `'*:value:(${choices.join(' ')})'` : "'*:file:_files'";
      return `    ${name}) _arguments ${[...specs, rest].join(' \\\n      ')} ;;`;
    });
    return `#compdef torchbrush
# Completion of torchbrush for zsh.
_torchbrush() {
  local -a commands
  commands=(
${entries.join('\n')}
  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  local command=$words[2]
  shift words
  (( CURRENT-- ))
  case $command in
${cases.join('\n')}
  esac
}
if [ "$funcstack[1]" = _torchbrush ]; then _torchbrush "$@"; else compdef _torchbrush torchbrush; fi
`;
  },
  fish: (commands) => {
    const quoted = (text: string) => text.replaceAll(/[\\']/g, (sign) => `\\${sign}`);
    const names = commands.map(({ name }) => name).join(' ');
    const lines = commands.flatMap(({ name, description, flags, choices }) => {
      const inside = `-n '__fish_seen_subcommand_from ${name}'`;
      return [
        `complete -c torchbrush -f -n "not __fish_seen_subcommand_from ${names}" -a ${name} -d '${quoted(description)}'`,
        ...(choices.length > 0
          ? [`complete -c torchbrush -f ${inside} -a '${choices.join(' ')}'`]
          : []),
        ...flags.map(({ long, short, description: about, takesValue, choices: values }) => {
          const parts = [`complete -c torchbrush ${inside} -l ${long.slice(2)}`];
          if (short !== undefined) parts.push(`-s ${short.slice(1)}`);
          parts.push(`-d '${quoted(about)}'`);
          if (takesValue) parts.push(values.length > 0 ? `-x -a '${values.join(' ')}'` : '-r');
          return parts.join(' ');
        }),
      ];
    });
    return `# Completion of torchbrush for fish.\n${lines.join('\n')}\n`;
  },
};
