// torchbrush upscale: its flags.
import type { Command } from 'commander';

import { familyDefaults } from '../defaults.js';
import {
  addMachineFlags,
  addModelFlags,
  addOutputFlags,
  addPromptFlags,
  addSamplingFlags,
  type DrawFlags,
} from './flags.js';
import { collect, number } from './values.js';

export interface UpscaleFlags extends DrawFlags {
  image: string[];
  noiseLevel?: number;
}

export function addUpscale(program: Command): void {
  const command = program
    .command('upscale')
    .description('Make pictures two or four times as high and wide, with an upscaler checkpoint.')
    .optionsGroup('Pictures:')
    .requiredOption(
      '-i, --image <file>',
      "small picture: a path or URL, a folder, or a quoted pattern such as 'in/*.jpg'; may be repeated",
      collect,
    )
    .option(
      '--noise-level <number>',
      `x4: noise added to the small picture, 0 to 350 (default: ${familyDefaults.upscaleX4.noiseLevel})`,
      number,
    );
  addModelFlags(command, { upscale: true });
  addPromptFlags(command, { required: false });
  addSamplingFlags(command, { upscale: true });
  addMachineFlags(command);
  addOutputFlags(command);
  command
    .addHelpText(
      'after',
      `
Examples:
  Twice the size, without a prompt:
    torchbrush upscale -m stabilityai/sd-x2-latent-upscaler -i small.png --guidance-scale 0 --steps 20 -o large.png
  Four times the size, a folder at once:
    torchbrush upscale -m stabilityai/stable-diffusion-x4-upscaler -i 'in/*.png' -p "a red fox" -o 'out/{name}-x4.png'`,
    )
    .action(async (flags: UpscaleFlags) => {
      const { upscale } = await import('./run-upscale.js');
      await upscale(flags);
    });
}
