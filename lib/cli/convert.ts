// torchbrush convert: its flags.
import { type Command, Option } from 'commander';

export interface ConvertFlags {
  config?: string;
  variant?: string;
  revision?: string;
  dtype?: 'float32' | 'float16' | 'bfloat16';
  offline?: boolean;
  force?: boolean;
  json?: boolean;
  quiet?: boolean;
}

export function addConvert(program: Command): void {
  program
    .command('convert')
    .description(
      "Make a folder in diffusers' layout, with safetensors files, of a single file or of a folder with .bin files.",
    )
    .argument(
      '<source>',
      'a .safetensors or .ckpt file, a folder, or org/name on the Hugging Face hub',
    )
    .argument('<folder>', 'the folder to make')
    .option(
      '--config <checkpoint>',
      'of a single file: checkpoint of the same architecture, for its tokenizer and settings',
    )
    .addOption(
      new Option('--dtype <name>', 'number format to write (default: as it is)').choices([
        'float32',
        'float16',
        'bfloat16',
      ]),
    )
    .option('--variant <name>', 'weight files to take, such as fp16')
    .option('--revision <name>', 'of a checkpoint on the hub: branch, tag or commit')
    .option('--offline', 'take what is in the cache, without any request')
    .option('--force', 'replace a folder that is there')
    .option('--json', 'a line of JSON on standard output')
    .option('-q, --quiet', 'no progress')
    .addHelpText(
      'after',
      `
Examples:
  One file of a Stable Diffusion 1.x fine-tune, at half its size:
    torchbrush convert dreamy.safetensors ./dreamy --config stable-diffusion-v1-5/stable-diffusion-v1-5 --dtype float16
  A folder with .bin files:
    torchbrush convert ./old-style ./old-style-safetensors
The folder appears when it is complete. diffusers in Python reads it as well.`,
    )
    .action(async (source: string, folder: string, flags: ConvertFlags) => {
      const { convert } = await import('./run-convert.js');
      await convert(source, folder, flags);
    });
}
