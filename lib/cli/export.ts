// torchbrush export: its flags.
import type { Command } from 'commander';

export interface ExportFlags {
  python?: string;
  force?: boolean;
  json?: boolean;
}

export function addExport(program: Command): void {
  program
    .command('export')
    .description(
      'Make the programs of a checkpoint whose architecture is not bundled. Needs Python.',
    )
    .argument('<folder>', 'checkpoint folder, or the folder of one component')
    .option(
      '--python <path>',
      'Python with torch and diffusers (default: TORCHBRUSH_PYTHON, or python3)',
    )
    .option('--force', 'make them anew even where there are some')
    .option('--json', 'a line of JSON on standard output')
    .addHelpText(
      'after',
      `
Example:
  torchbrush export ./my-model --python ~/venv/bin/python
torchbrush inspect says whether a checkpoint needs it. Programs go to TORCHBRUSH_PROGRAMS, or ~/.cache/torchbrush/programs.`,
    )
    .action(async (folder: string, flags: ExportFlags) => {
      const { exportCheckpoint } = await import('./run-export.js');
      await exportCheckpoint(folder, flags);
    });
}
