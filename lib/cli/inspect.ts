// torchbrush inspect: its flags.
import type { Command } from 'commander';

export interface InspectFlags {
  variant?: string;
  revision?: string;
  config?: string;
  online?: boolean;
  json?: boolean;
}

export function addInspect(program: Command): void {
  program
    .command('inspect')
    .description('Show what a checkpoint or an adapter consists of, and what is missing to run it.')
    .argument(
      '<checkpoint>',
      'folder of a checkpoint or a network, org/name in the Hugging Face cache, single file, LoRA or textual inversion',
    )
    .option('--variant <name>', 'weight files to look at, such as fp16')
    .option('--revision <name>', 'of a checkpoint on the hub: branch, tag or commit')
    .option('--config <checkpoint>', 'of a single file: checkpoint for its tokenizer and settings')
    .option('--online', 'of a checkpoint on the hub: fetch its configurations, but no weights')
    .option('--json', 'for machines')
    .addHelpText(
      'after',
      `
Examples:
  torchbrush inspect demo
  torchbrush inspect stabilityai/sd-turbo --online
  torchbrush inspect ink.safetensors --json
Exit code 0 means that all is there, 1 that something is missing.`,
    )
    .action(async (path: string, flags: InspectFlags) => {
      const { inspect } = await import('./run-inspect.js');
      await inspect(path, flags);
    });
}
