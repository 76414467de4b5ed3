// torchbrush img2img and txt2img.
import { existsSync } from 'node:fs';
import { dirname, extname } from 'node:path';

import { type Command, InvalidArgumentError as CommanderArgumentError, Option } from 'commander';

import type { Image } from '../image.js';
import { defaults } from '../options.js';
import { demoModel } from '../package-root.js';
import { AutoPipelineForImage2Image, AutoPipelineForText2Image } from '../pipelines/auto.js';
import type { DiffusionPipeline } from '../pipelines/pipeline.js';
import { schedulerClass, schedulerNames } from '../schedulers/index.js';
import { signal } from './interrupt.js';
import { Progress } from './progress.js';

interface CommonFlags {
  model: string;
  prompt: string;
  negativePrompt?: string;
  guidanceScale?: number;
  steps?: number;
  seed?: number;
  numImages?: number;
  scheduler?: string;
  clipSkip?: number;
  eta?: number;
  dtype: 'auto' | 'float32' | 'bfloat16' | 'float16';
  device: string;
  variant?: string;
  revision?: string;
  output: string;
}

const number = (text: string): number => {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value))
    throw new CommanderArgumentError('Not a number.');
  return value;
};

/** Checked before minutes of drawing, not after. */
const picturePath = (file: string): string => {
  if (!['.png', '.jpg', '.jpeg', '.webp'].includes(extname(file).toLowerCase())) {
    throw new CommanderArgumentError('Name a file that ends in .png, .jpg, .jpeg or .webp.');
  }
  const folder = dirname(file);
  if (!existsSync(folder))
    throw new CommanderArgumentError(`There is no folder ${folder}. Make it first.`);
  return file;
};

/** Left to the pipeline: each family has defaults of its own. */
const usual = "the pipeline's default, for Stable Diffusion ";

function addCommon(command: Command): Command {
  return command
    .requiredOption(
      '--model <folder>',
      "checkpoint folder in diffusers layout, or org/name on the hub; 'demo' is the embedded model",
      (model) => (model === 'demo' ? demoModel : model),
    )
    .option('--revision <name>', 'branch, tag or commit of a checkpoint on the hub')
    .requiredOption('--prompt <text>', 'what the picture should show')
    .option('--negative-prompt <text>', 'what it should not show')
    .option(
      '--guidance-scale <number>',
      `how closely to follow the prompt (${usual}${defaults.guidanceScale})`,
      number,
    )
    .option(
      '--steps <number>',
      `steps of the schedule (${usual}${defaults.numInferenceSteps})`,
      number,
    )
    .option('--seed <number>', 'seed; the same one draws the same picture', number)
    .option('--num-images <number>', 'pictures to draw (default: 1)', number)
    .addOption(
      new Option('--scheduler <name>', "instead of the checkpoint's").choices([...schedulerNames]),
    )
    .option('--clip-skip <number>', "skips the text encoder's last layers", number)
    .option('--eta <number>', 'fresh noise of DDIM, 0 to 1 (default: 0)', number)
    .addOption(
      new Option('--dtype <name>', 'number format to compute in')
        .choices(['auto', 'float32', 'bfloat16', 'float16'])
        .default('auto'),
    )
    .option('--device <name>', 'auto, cpu, cuda or cuda:N', 'auto')
    .option('--variant <name>', 'weight files to take, such as fp16')
    .requiredOption(
      '--output <file>',
      'picture to write: .png, .jpg or .webp; numbered when several',
      picturePath,
    );
}

export function addImageToImage(program: Command): void {
  const command = program
    .command('img2img')
    .description('Redraws a picture after a prompt.')
    .requiredOption('--image <file>', 'picture to start from: a path or URL')
    .option(
      '--strength <number>',
      `how much is redrawn, 0 to 1 (${usual}${defaults.strength})`,
      number,
    );
  addCommon(command)
    .addHelpText(
      'after',
      '\nExample:\n  torchbrush img2img --model ./model --image house.png --prompt "a castle" --strength 0.7 --seed 7 --output castle.png',
    )
    .action(async (flags: CommonFlags & { image: string; strength?: number }) => {
      using pipe = await AutoPipelineForImage2Image.fromPretrained(flags.model, loadOptions(flags));
      chooseScheduler(pipe, flags.scheduler);
      const { image, strength } = flags;
      await drawAndSave(flags, (options) => pipe.generate({ ...options, image, strength }));
    });
}

export function addTextToImage(program: Command): void {
  const command = program
    .command('txt2img')
    .description('Draws a picture from a prompt.')
    .option('--height <pixels>', 'height; give both or none', number)
    .option('--width <pixels>', 'width; give both or none', number);
  addCommon(command)
    .addHelpText(
      'after',
      '\nExample:\n  torchbrush txt2img --model ./model --prompt "a fox in the snow" --seed 7 --output fox.png',
    )
    .action(async (flags: CommonFlags & { height?: number; width?: number }) => {
      using pipe = await AutoPipelineForText2Image.fromPretrained(flags.model, loadOptions(flags));
      chooseScheduler(pipe, flags.scheduler);
      const { height, width } = flags;
      await drawAndSave(flags, (options) => pipe.generate({ ...options, height, width }));
    });
}

function loadOptions({ dtype, device, variant, revision }: CommonFlags) {
  return { dtype, device, variant, revision, signal };
}

function chooseScheduler(pipe: DiffusionPipeline, name: string | undefined): void {
  if (name !== undefined) pipe.scheduler = schedulerClass(name).fromConfig(pipe.scheduler.config);
}

async function drawAndSave(
  flags: CommonFlags,
  draw: (options: ReturnType<typeof drawOptions>) => Promise<{ images: Image[] }>,
): Promise<void> {
  const progress = new Progress('drawing');
  try {
    const { images } = await draw(drawOptions(flags, progress));
    progress.stop();
    for (const [index, image] of images.entries()) {
      const file = images.length === 1 ? flags.output : numbered(flags.output, index);
      await image.save(file);
      console.log(file);
    }
  } finally {
    progress.stop();
  }
}

function drawOptions(flags: CommonFlags, progress: Progress) {
  return {
    prompt: flags.prompt,
    negativePrompt: flags.negativePrompt,
    guidanceScale: flags.guidanceScale,
    numInferenceSteps: flags.steps,
    numImagesPerPrompt: flags.numImages,
    clipSkip: flags.clipSkip,
    eta: flags.eta,
    seed: flags.seed,
    signal,
    onStep: ({ step, steps }: { step: number; steps: number }) => progress.update(step + 1, steps),
  };
}

/** out.png → out-0.png */
function numbered(file: string, index: number): string {
  const extension = extname(file);
  return `${file.slice(0, file.length - extension.length)}-${index}${extension}`;
}
