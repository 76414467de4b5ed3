// Options of Stable Diffusion XL that its pipelines share, and their checks.
import { familyDefaults } from '../defaults.js';
import { expectedShape, InvalidArgumentError } from '../errors.js';
import {
  checkAtMostOne,
  checkExactlyOne,
  checkPrompt,
  checkTensor,
  checkTexts,
  defaults,
} from '../options.js';
import type { XLEmbeddings, XLPromptOptions } from '../prompts/encode-xl.js';
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
import { checkClipSkip, type GuidanceManner } from './stable-diffusion-options.js';
import {
  encodersOf,
  type StableDiffusionXLComponents,
  type StableDiffusionXLRequest,
} from './stable-diffusion-xl.js';
import {
  checkTimeIds,
  type TimeIdOptions,
  timeIdOptionNames,
} from './stable-diffusion-xl-time-ids.js';

/** diffusers' names and defaults; guidanceScale is 5 here. */
export interface StableDiffusionXLOptions
  extends GenerationOptions,
    ScheduleOptions,
    TimeIdOptions {
  /** One text, or one per picture of a batch. Not together with `promptEmbeds`. */
  prompt?: string | readonly string[];
  /** For the second text encoder; as `prompt` unless given. A refiner ignores it. */
  prompt2?: string | readonly string[];
  /**
   * What the picture should not show. Without one the checkpoint decides whether nothing (zeros) or
   * the empty text stands in for it.
   */
  negativePrompt?: string | readonly string[];
  /** For the second text encoder; as `negativePrompt` unless given. */
  negativePrompt2?: string | readonly string[];
  /** Embeddings [B,L,D] of all text encoders side by side, with `pooledPromptEmbeds`. Not disposed. */
  promptEmbeds?: Tensor;
  /**
   * Embeddings [B,L,D] instead of `negativePrompt`, with `negativePooledPromptEmbeds`. Not
   * disposed.
   */
  negativePromptEmbeds?: Tensor;
  /** Embeddings of the whole texts, [B,P]. Not disposed. */
  pooledPromptEmbeds?: Tensor;
  /** Embeddings of the whole negative texts, [B,P]. Not disposed. */
  negativePooledPromptEmbeds?: Tensor;
  /** Reads prompt and negativePrompt in a syntax with weights; the same for both encoders. */
  weighting?: Weighting;
  /** Skips so many of the text encoders' last layers, counted from the one before the last. */
  clipSkip?: number;
  /** Fresh noise of DDIM and TCD, 0 (default) to 1. */
  eta?: number;
  /** 0 (default) to 1: keeps strong guidance from washing out contrast. */
  guidanceRescale?: number;
  /** Share of the schedule, 0 to 1, after which to stop: the latents go to a refiner. */
  denoisingEnd?: number;
}

export const xlOptionNames = [
  ...generationOptionNames,
  ...timeIdOptionNames,
  'prompt',
  'prompt2',
  'negativePrompt',
  'negativePrompt2',
  'promptEmbeds',
  'negativePromptEmbeds',
  'pooledPromptEmbeds',
  'negativePooledPromptEmbeds',
  'timesteps',
  'sigmas',
  'clipSkip',
  'eta',
  'guidanceRescale',
  'denoisingEnd',
  'weighting',
];

const { guidanceScale: defaultGuidanceScale } = familyDefaults.xl;

/** @throws InvalidArgumentError before any network runs */
export function checkXLRequest(
  components: Readonly<StableDiffusionXLComponents>,
  options: StableDiffusionXLOptions,
  forceZeros: boolean,
  { tellGuidance = true }: Pick<GuidanceManner, 'tellGuidance'> = {},
): StableDiffusionXLRequest {
  const guidanceScale = checkGuidanceScale(options, defaultGuidanceScale);
  const toldGuidance = tellGuidance ? components.unet.told(guidanceScale) : undefined;
  const guided = guidanceScale > 1 && toldGuidance === undefined;
  checkTimeIds(options);
  const layers = Math.min(...encodersOf(components).map(({ encoder }) => encoder.layers));
  const { count, ...texts } = checkPrompts(components, options, forceZeros);
  return {
    ...checkGeneration(options, count, guidanceScale),
    prompt: {
      ...texts,
      guided,
      numImagesPerPrompt: options.numImagesPerPrompt ?? defaults.numImagesPerPrompt,
      clipSkip: checkClipSkip(options.clipSkip, layers),
      weighting: checkWeighting(options),
    },
    guidanceRescale: checkGuidanceRescale(options),
    eta: checkEta(options),
    toldGuidance,
  };
}

type Texts = Omit<XLPromptOptions, 'guided' | 'numImagesPerPrompt' | 'clipSkip' | 'weighting'>;

function checkPrompts(
  components: Readonly<StableDiffusionXLComponents>,
  options: StableDiffusionXLOptions,
  forceZeros: boolean,
): Texts & { count: number } {
  const { prompt, prompt2, promptEmbeds } = options;
  const { negativePrompt, negativePrompt2, negativePromptEmbeds } = options;
  checkExactlyOne({ prompt, promptEmbeds });
  checkAtMostOne({ prompt2, promptEmbeds });
  checkAtMostOne({ negativePrompt, negativePromptEmbeds });
  checkAtMostOne({ negativePrompt2, negativePromptEmbeds });
  const first = prompt === undefined ? undefined : checkPrompt(prompt, 'prompt');
  const embeddings = checkEmbeddings(components, options, '');
  const count = first?.length ?? (embeddings?.promptEmbeds.shape[0] as number);
  const list = (value: unknown, name: string) => checkTexts(value, name, count);
  const negative = list(negativePrompt, 'negativePrompt');
  const negative2 = list(negativePrompt2, 'negativePrompt2') ?? negative;
  const negativeEmbeddings = checkEmbeddings(components, options, 'negative', embeddings, count);
  const empty = Array.from({ length: count }, () => '');
  const useZeros = negative === undefined && forceZeros;
  return {
    count,
    prompts: first && perEncoder(components, first, list(prompt2, 'prompt2') ?? first),
    negativePrompts: useZeros
      ? undefined
      : perEncoder(components, negative ?? empty, negative2 ?? empty),
    embeddings,
    negativeEmbeddings,
  };
}

/** The refiner's one encoder reads the first text, although it is the second encoder. */
function perEncoder(
  components: Readonly<StableDiffusionXLComponents>,
  first: string[],
  second: string[],
): string[][] {
  return encodersOf(components).length === 1 ? [first] : [first, second];
}

function checkEmbeddings(
  { unet, textEncoder2 }: Readonly<StableDiffusionXLComponents>,
  options: StableDiffusionXLOptions,
  half: '' | 'negative',
  positive?: XLEmbeddings,
  count?: number,
): XLEmbeddings | undefined {
  const [name, pooledName] =
    half === ''
      ? (['promptEmbeds', 'pooledPromptEmbeds'] as const)
      : (['negativePromptEmbeds', 'negativePooledPromptEmbeds'] as const);
  const [tokens, pooled] = [options[name], options[pooledName]];
  if (tokens === undefined && pooled === undefined) return undefined;
  if (tokens === undefined || pooled === undefined) {
    const missing = tokens === undefined ? name : pooledName;
    throw new InvalidArgumentError(`Expected ${name} and ${pooledName}; ${missing} is missing.`);
  }
  const rows = count ?? checkTensor(tokens, name, 3).shape[0];
  const length = positive?.promptEmbeds.shape[1];
  const width = unet.network.config.cross_attention_dim;
  checkShape(tokens, name, [rows, length, typeof width === 'number' ? width : undefined]);
  checkShape(pooled, pooledName, [rows, textEncoder2.projectionDim]);
  return { promptEmbeds: tokens, textEmbeds: pooled };
}

/** Undefined stands for any size. */
function checkShape(value: unknown, name: string, wanted: (number | undefined)[]): void {
  const { shape, size } = checkTensor(value, name, wanted.length);
  if (size > 0 && wanted.every((side, i) => side === undefined || side === shape[i])) return;
  throw expectedShape(
    wanted.map((side, i) => side ?? ['B', 'L', 'D'][i] ?? ''),
    name,
    shape,
  );
}
