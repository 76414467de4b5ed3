// Options of Stable Diffusion 1.x and 2.x that its pipelines share, and their checks.
import { expected, expectedShape } from '../errors.js';
import type { UNet } from '../networks/unet.js';
import {
  checkAtMostOne,
  checkExactlyOne,
  checkInteger,
  checkPrompt,
  checkTensor,
  checkTexts,
  defaults,
} from '../options.js';
import { checkEmbeddingLength, type PromptOptions, rowLength } from '../prompts/encode.js';
import { checkWeighting, type Weighting } from '../prompts/weighted-prompts.js';
import type { Tensor } from '../tensor.js';
import {
  checkEta,
  checkGeneration,
  checkGuidanceRescale,
  checkGuidanceScale,
  type GenerationOptions,
  generationOptionNames,
  type ScheduleOptions,
} from './generation.js';
import type { StableDiffusionComponents, StableDiffusionRequest } from './stable-diffusion.js';

/** Options that text-to-image and image-to-image share; diffusers' names and defaults. */
export interface StableDiffusionOptions extends GenerationOptions, ScheduleOptions {
  /** One text, or one per picture of a batch. Not together with `promptEmbeds`. */
  prompt?: string | readonly string[];
  /** What the picture should not show; one for all, or one per prompt. Needs guidance above 1. */
  negativePrompt?: string | readonly string[];
  /** Fresh noise of DDIM and TCD, 0 (default) to 1. */
  eta?: number;
  /** Embeddings [B,L,D] instead of `prompt`. Not disposed. */
  promptEmbeds?: Tensor;
  /** Embeddings [B,L,D] instead of `negativePrompt`; shaped as `promptEmbeds`. Not disposed. */
  negativePromptEmbeds?: Tensor;
  /** Skips so many of the text encoder's last layers. */
  clipSkip?: number;
  /** Reads prompt and negativePrompt in a syntax with weights; see docs/prompt-weighting.md. */
  weighting?: Weighting;
}

export const stableDiffusionOptionNames = [
  ...generationOptionNames,
  'prompt',
  'negativePrompt',
  'timesteps',
  'sigmas',
  'eta',
  'promptEmbeds',
  'negativePromptEmbeds',
  'clipSkip',
  'weighting',
];

/** How a pipeline guides. */
export interface GuidanceManner {
  defaultGuidanceScale?: number;
  /** Whether a distilled UNet is told the scale, which spares the second pass; true unless given. */
  tellGuidance?: boolean;
}

/** @throws InvalidArgumentError before any network runs */
export function checkRequest(
  components: Readonly<StableDiffusionComponents>,
  options: StableDiffusionOptions & { guidanceRescale?: number },
  { defaultGuidanceScale = defaults.guidanceScale, tellGuidance = true }: GuidanceManner = {},
): StableDiffusionRequest {
  const guidanceScale = checkGuidanceScale(options, defaultGuidanceScale);
  const toldGuidance = tellGuidance ? components.unet.told(guidanceScale) : undefined;
  const guided = guidanceScale > 1 && toldGuidance === undefined;
  const prompt = checkPrompts(components, options, guided);
  const prompts = prompt.prompts?.length ?? (prompt.promptEmbeds?.shape[0] as number);
  return {
    ...checkGeneration(options, prompts, guidanceScale),
    prompt,
    guidanceRescale: checkGuidanceRescale(options),
    eta: checkEta(options),
    toldGuidance,
  };
}

/** @throws InvalidArgumentError */
function checkPrompts(
  components: Pick<StableDiffusionComponents, 'textEncoder' | 'tokenizer' | 'unet'>,
  options: StableDiffusionOptions,
  guided: boolean,
): PromptOptions {
  const { prompt, promptEmbeds, negativePrompt, negativePromptEmbeds } = options;
  checkExactlyOne({ prompt, promptEmbeds });
  checkAtMostOne({ negativePrompt, negativePromptEmbeds });
  const { textEncoder } = components;
  const prompts = prompt === undefined ? undefined : checkPrompt(prompt, 'prompt');
  const embeds = checkEmbeddings(promptEmbeds, 'promptEmbeds', components);
  const negativeEmbeds = checkEmbeddings(negativePromptEmbeds, 'negativePromptEmbeds', components);
  const count = prompts?.length ?? (embeds?.shape[0] as number);
  if (
    embeds !== undefined &&
    negativeEmbeds !== undefined &&
    embeds.shape.join() !== negativeEmbeds.shape.join()
  ) {
    throw expectedShape(
      `the shape [${embeds.shape.join(', ')}] of promptEmbeds`,
      'negativePromptEmbeds',
      negativeEmbeds.shape,
    );
  }
  if (negativeEmbeds !== undefined && negativeEmbeds.shape[0] !== count) {
    throw expected(
      `${count} rows, one per prompt,`,
      'negativePromptEmbeds',
      negativeEmbeds.shape[0],
    );
  }
  const length = embeds?.shape[1] ?? rowLength(components.tokenizer, textEncoder);
  if (negativeEmbeds !== undefined && negativeEmbeds.shape[1] !== length) {
    throw expected(
      `${length} tokens, as the prompt has,`,
      'negativePromptEmbeds',
      negativeEmbeds.shape[1],
    );
  }
  const checked: PromptOptions = {
    prompts,
    negativePrompts: checkTexts(negativePrompt, 'negativePrompt', count),
    promptEmbeds: embeds,
    negativePromptEmbeds: negativeEmbeds,
    guided,
    numImagesPerPrompt: options.numImagesPerPrompt ?? defaults.numImagesPerPrompt,
    clipSkip: checkClipSkip(options.clipSkip, textEncoder.layers),
    weighting: checkWeighting(options),
  };
  checkEmbeddingLength(checked, components.tokenizer, textEncoder);
  return checked;
}

function checkEmbeddings(
  value: Tensor | undefined,
  name: string,
  { unet }: { unet: UNet },
): Tensor | undefined {
  if (value === undefined) return undefined;
  const tensor = checkTensor(value, name, 3);
  const width = unet.network.config.cross_attention_dim;
  const fits = typeof width !== 'number' || tensor.shape[2] === width;
  if (fits && tensor.size > 0) return tensor;
  throw expectedShape(['B', 'L', typeof width === 'number' ? width : 'D'], name, tensor.shape);
}

/** @throws InvalidArgumentError */
export function checkClipSkip(value: unknown, layers: number): number | undefined {
  if (value === undefined || value === null) return undefined;
  const skip = checkInteger(value, 'clipSkip', 0);
  if (skip >= layers) throw expected(`at most ${layers - 1}`, 'clipSkip', skip);
  return skip;
}
