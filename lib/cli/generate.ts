// torchbrush img2img and txt2img: their flags. What they do is loaded when they are called.
import type { Command } from 'commander';

import { defaults, familyDefaults } from '../defaults.js';
import {
  addAdapterFlags,
  addControlFlags,
  addMachineFlags,
  addModelFlags,
  addOutputFlags,
  addPromptFlags,
  addSamplingFlags,
  addScheduleFlags,
  addWeightingFlags,
  type GenerateFlags,
} from './flags.js';
import { collect, number } from './values.js';

function addCommon(command: Command): void {
  addModelFlags(command);
  addAdapterFlags(command);
  addPromptFlags(command, { required: true });
  addWeightingFlags(command);
  addSamplingFlags(command);
  addScheduleFlags(command);
  addControlFlags(command);
  addMachineFlags(command);
  addOutputFlags(command);
}

export function addImageToImage(program: Command): void {
  const command = program
    .command('img2img')
    .description('Redraw pictures after a prompt.')
    .optionsGroup('Pictures:')
    .requiredOption(
      '-i, --image <file>',
      "picture to start from: a path or URL, a folder, or a quoted pattern such as 'in/*.jpg'; may be repeated",
      collect,
    )
    .option(
      '--strength <number>',
      `how much is redrawn, 0 to 1 (default: ${defaults.strength}; SDXL, Kandinsky ${familyDefaults.xl.strength})`,
      number,
    )
    .option('--height <pixels>', 'resize pictures first; with one side, the other follows', number)
    .option('--width <pixels>', 'the same', number);
  addCommon(command);
  command
    .addHelpText(
      'after',
      `
Examples:
  Redraw one picture, with the embedded model:
    torchbrush img2img --model demo --image house.png --prompt "a castle" --seed 7 --output castle.png
  A folder of photos in one load, four seeds each:
    torchbrush img2img -m ./sd15 -i 'photos/*.jpg' -p "watercolour" --seed 1..4 -o 'out/{name}-{seed}.png'
  A style on top, and a look at it while it is drawn:
    torchbrush img2img -m ./sd15 --lora ink.safetensors:0.8 -i in.png -p "ink drawing" --preview now.png -o out.png`,
    )
    .action(async (flags: GenerateFlags) => {
      const { imageToImage } = await import('./run-generate.js');
      await imageToImage(flags);
    });
}

export function addTextToImage(program: Command): void {
  const command = program
    .command('txt2img')
    .description('Draw pictures from a prompt.')
    .optionsGroup('Pictures:')
    .option('--height <pixels>', "height (default: the checkpoint's)", number)
    .option('--width <pixels>', "width (default: the checkpoint's)", number);
  addCommon(command);
  command
    .addHelpText(
      'after',
      `
Examples:
  One picture, with the embedded model:
    torchbrush txt2img --model demo --prompt "a fox, 3d style" --seed 7 --output fox.png
  Three seeds of two prompts, in one load:
    torchbrush txt2img -m ./sd15 -p "a fox" -p "an owl" --seed 1..3 -o '{prompt}-{seed}.png'
  Prompts from another program, results for another one:
    make-prompts | torchbrush txt2img -m ./sd15 --prompt-file - --json -o 'out/{index}.png'`,
    )
    .action(async (flags: GenerateFlags) => {
      const { textToImage } = await import('./run-generate.js');
      await textToImage(flags);
    });
}
