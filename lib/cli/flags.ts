// The flags that the drawing commands share, and what they are called in code. Nothing here loads a
// library: help and completion must be there at once.
import { type Command, Option } from 'commander';

import { defaults, familyDefaults } from '../defaults.js';
import { demoModel } from '../package-root.js';
import { schedulerNames } from '../schedulers/names.js';
import {
  collect,
  number,
  numbers,
  outputPath,
  picturePath,
  positiveInteger,
  type ScaledFile,
  scaledFiles,
  seeds,
  settings,
  type TokenFile,
  tokenFiles,
} from './values.js';

export interface ModelFlags {
  model: string;
  config?: string;
  revision?: string;
  variant?: string;
  dtype: 'auto' | 'float32' | 'bfloat16' | 'float16';
  device: string;
  offline?: boolean;
  /** False where `--no-safety-checker` is given. */
  safetyChecker: boolean;
  threads?: number;
}

export interface DrawFlags extends ModelFlags {
  prompt?: string[];
  promptFile?: string;
  negativePrompt?: string[];
  guidanceScale?: number;
  steps?: number;
  scheduler?: string;
  schedulerConfig?: Record<string, unknown>;
  clipSkip?: number;
  eta?: number;
  seed?: bigint[];
  batch: number;
  output: string;
  quality?: number;
  skipExisting?: boolean;
  preview?: string;
  previewEvery: number;
  json?: boolean;
  quiet?: boolean;
}

export interface GenerateFlags extends DrawFlags {
  prompt2?: string[];
  negativePrompt2?: string[];
  weighting?: 'compel' | 'a1111';
  vae?: string;
  prior?: string;
  lora?: ScaledFile[];
  textualInversion?: TokenFile[];
  controlnet?: string[];
  controlImage?: string[];
  controlnetScale?: number[];
  controlStart?: number[];
  controlEnd?: number[];
  guessMode?: boolean;
  refiner?: string;
  refinerStart: number;
  guidanceRescale?: number;
  timesteps?: number[];
  sigmas?: number[];
  originalSteps?: number;
  numImages?: number;
  height?: number;
  width?: number;
  /** Image-to-image only. */
  image?: string[];
  strength?: number;
}

/** A setting that each family of checkpoints has a default of its own for. */
function usual(name: 'strength' | 'guidanceScale' | 'numInferenceSteps'): string {
  const { xl, latentConsistency, kandinsky } = familyDefaults;
  const parts = [`default: ${defaults[name]}`];
  if (name in xl) parts.push(`SDXL ${xl[name as keyof typeof xl]}`);
  const distilled: Partial<Record<string, number>> = latentConsistency;
  if (name in distilled) parts.push(`latent consistency ${distilled[name]}`);
  parts.push(`Kandinsky ${kandinsky[name]}`);
  return `(${parts.join(', ')})`;
}

/** Upscalers come in folders only. */
export function addModelFlags(command: Command, { upscale = false } = {}): void {
  const anything =
    "folder in diffusers' layout, org/name on the Hugging Face hub, one .safetensors or .ckpt file, or demo, the embedded model";
  command
    .optionsGroup('Checkpoint:')
    .requiredOption(
      '-m, --model <checkpoint>',
      upscale ? "folder in diffusers' layout, or org/name on the Hugging Face hub" : anything,
      (model) => (model === 'demo' ? demoModel : model),
    );
  if (!upscale) {
    command.option(
      '--config <checkpoint>',
      'of a single file: checkpoint for its tokenizer and settings',
    );
  }
  command
    .option('--revision <name>', 'of a checkpoint on the hub: branch, tag or commit')
    .option('--variant <name>', 'weight files to take, such as fp16')
    .option('--offline', 'take what is in the cache, without any request')
    .option('--no-safety-checker', "draw without the checkpoint's safety checker");
}

export function addMachineFlags(command: Command): void {
  command
    .optionsGroup('Machine:')
    .addOption(
      new Option('--dtype <name>', 'number format to compute in; auto is float32 on a CPU')
        .choices(['auto', 'float32', 'bfloat16', 'float16'])
        .default('auto'),
    )
    .option('--device <name>', 'auto, cpu, cuda or cuda:N', 'auto')
    .option(
      '--threads <number>',
      'CPU threads for one operator (default: all cores)',
      positiveInteger,
    )
    .option('--batch <number>', 'pictures to draw at the same time', positiveInteger, 1);
}

export function addAdapterFlags(command: Command): void {
  command
    .option('--vae <checkpoint>', 'another autoencoder: a folder, or org/name')
    .option('--prior <checkpoint>', "Kandinsky: the prior's checkpoint")
    .option(
      '--lora <file:scale>',
      'LoRA file, and its strength (default: 1); several add up',
      scaledFiles,
    )
    .option(
      '--textual-inversion <token=file>',
      'textual inversion file, and the word for prompts unless the file names it; may be repeated',
      tokenFiles,
    );
}

export function addPromptFlags(command: Command, { required }: { required: boolean }): void {
  command
    .optionsGroup('Prompt:')
    .option(
      '-p, --prompt <text>',
      `what the picture should show${required ? '; repeat for a picture each' : ' (default: nothing)'}`,
      collect,
    )
    .option('--prompt-file <file>', 'prompts, one a line; - is standard input')
    .option(
      '-n, --negative-prompt <text>',
      'what it should not show; repeat for one per prompt',
      collect,
    );
}

export function addWeightingFlags(command: Command): void {
  command
    .option('--prompt-2 <text>', 'SDXL: for the second text encoder', collect)
    .option('--negative-prompt-2 <text>', 'SDXL: for the second text encoder', collect)
    .addOption(
      new Option(
        '--weighting <syntax>',
        'prompts have weights, such as (fox)1.3 or (fox:1.3)',
      ).choices(['compel', 'a1111']),
    );
}

export function addSamplingFlags(command: Command, { upscale = false } = {}): void {
  const { upscaleX2 } = familyDefaults;
  command
    .optionsGroup('Sampling:')
    .option(
      '-s, --steps <number>',
      `steps of the schedule ${upscale ? `(default: ${upscaleX2.numInferenceSteps})` : usual('numInferenceSteps')}`,
      number,
    )
    .option(
      '-g, --guidance-scale <number>',
      `how closely to follow the prompt ${upscale ? `(default: ${upscaleX2.guidanceScale})` : usual('guidanceScale')}`,
      number,
    )
    .option(
      '--seed <numbers>',
      'the same seed draws the same picture; 1,2,3 or 1..3 draws one for each (default: at random)',
      seeds,
    )
    .addOption(
      new Option('--scheduler <name>', "sampling algorithm instead of the checkpoint's").choices([
        ...schedulerNames,
      ]),
    )
    .option(
      '--scheduler-config <name=value>',
      'field of the scheduler, such as useKarrasSigmas=true; may be repeated',
      settings,
    )
    .option('--clip-skip <number>', "skip so many of the text encoder's last layers", number)
    .option(
      '--eta <number>',
      `fresh noise of DDIM and TCD, 0 to 1 (default: ${defaults.eta})`,
      number,
    );
}

export function addScheduleFlags(command: Command): void {
  command
    .option('--num-images <number>', 'pictures for each prompt and seed (default: 1)', number)
    .option(
      '--guidance-rescale <number>',
      `text-to-image: keeps strong guidance from washing out contrast, 0 to 1 (default: ${defaults.guidanceRescale})`,
      number,
    )
    .option('--timesteps <numbers>', 'custom timesteps, such as 999,749,499,249', numbers)
    .option('--sigmas <numbers>', 'custom noise levels, such as 14.6,3.1,0.7', numbers)
    .option('--original-steps <number>', 'latent consistency: steps of the distillation', number)
    .option('--refiner <checkpoint>', 'SDXL: a refiner that draws the last steps')
    .option(
      '--refiner-start <number>',
      'share of the schedule from which the refiner draws, 0 to 1',
      number,
      0.8,
    );
}

export function addControlFlags(command: Command): void {
  const { controlledImageToImage: image, controlledTextToImage: text } = familyDefaults;
  command
    .optionsGroup('ControlNet:')
    .option(
      '--controlnet <checkpoint>',
      'folder, org/name or file of a ControlNet; may be repeated',
      collect,
    )
    .option('--control-image <file>', 'what it follows; one for each ControlNet', collect)
    .option(
      '--controlnet-scale <numbers>',
      `how much it counts (default: ${image.controlnetConditioningScale}; ${text.controlnetConditioningScale} in txt2img)`,
      numbers,
    )
    .option('--control-start <numbers>', 'share of the steps from which it counts', numbers)
    .option('--control-end <numbers>', 'share of the steps up to which it counts', numbers)
    .option('--guess-mode', 'let it guess without a prompt');
}

export function addOutputFlags(command: Command): void {
  command
    .optionsGroup('Output:')
    .requiredOption(
      '-o, --output <file>',
      'picture to write: .png, .jpg or .webp; numbered when several. {name}, {seed}, {index} and {prompt} stand for the input, and so on; - is standard output',
      outputPath,
    )
    .option('--quality <number>', 'of .jpg and .webp, 1 to 100 (default: 95)', number)
    .option('--skip-existing', 'leave out pictures that are there already')
    .option('--preview <file>', 'write what there is so far to this picture', picturePath)
    .option('--preview-every <steps>', 'how often', positiveInteger, 5)
    .option('--json', 'a line of JSON on standard output for each picture, and one at the end')
    .option('-q, --quiet', 'no progress');
}
