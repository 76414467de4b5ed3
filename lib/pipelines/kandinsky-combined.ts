// Prior and decoder in one pipeline.
import type { Generator } from '../generator.js';
import { checkFunction, checkInteger, checkNumber } from '../options.js';
import type { Tensor } from '../tensor.js';
import type { ProgressCallback } from './denoise.js';
import {
  checkGeneration,
  checkGuidanceScale,
  type GenerationOptions,
  type GenerationRequest,
  generationOptionNames,
  type Pictures,
} from './generation.js';
import { type KandinskyCombinedComponents, priorOf } from './kandinsky-components.js';
import { type DecoderDrawing, decoderDefaults, drawFromEmbeddings } from './kandinsky-decoder.js';
import {
  checkPriorRequest,
  drawEmbeddings,
  type PriorRequest,
  priorDefaults,
} from './kandinsky-embeddings.js';

/** Options that text-to-image and image-to-image share; diffusers' names and defaults. */
export interface KandinskyCombinedOptions extends Omit<GenerationOptions, 'seed' | 'generator'> {
  /** One text or several. */
  prompt: string | readonly string[];
  /** What the pictures should not show; one for all, or one per prompt. */
  negativePrompt?: string | readonly string[];
  /** Pixels; 512. */
  height?: number;
  /** Pixels; as `height`. */
  width?: number;
  /** How closely the prior follows the prompt; 4. */
  priorGuidanceScale?: number;
  /** Steps of the prior's schedule; 25. */
  priorNumInferenceSteps?: number;
  /** Noise [rows,D] for the prior to start from: a row per picture, two with a negative prompt. */
  latents?: Tensor;
  /** A seed, or one per row of the prior's: a row per picture, two with a negative prompt. */
  seed?: number | bigint | readonly (number | bigint)[];
  /** Instead of `seed`: a generator that goes on where it stands, or one per row of the prior's. */
  generator?: Generator | readonly Generator[];
  /** Called after each step of the prior, and waited for; `onStep` is for the decoder's. */
  onPriorStep?: ProgressCallback;
}

export const combinedOptionNames = [
  ...generationOptionNames,
  'prompt',
  'negativePrompt',
  'height',
  'width',
  'priorGuidanceScale',
  'priorNumInferenceSteps',
  'latents',
  'onPriorStep',
];

/** The options after all checks. */
export interface CombinedRequest {
  prior: PriorRequest;
  priorNumInferenceSteps: number;
  decoder: GenerationRequest;
  numInferenceSteps: number;
}

/** @throws InvalidArgumentError before any network runs */
export function checkCombinedRequest(
  components: Readonly<KandinskyCombinedComponents>,
  options: KandinskyCombinedOptions,
): CombinedRequest {
  const { prompt, negativePrompt, numImagesPerPrompt, latents, signal } = options;
  const { priorGuidanceScale = priorDefaults.guidanceScale, onPriorStep } = options;
  const { priorNumInferenceSteps = priorDefaults.numInferenceSteps } = options;
  checkFunction(onPriorStep, 'onPriorStep');
  checkInteger(priorNumInferenceSteps, 'priorNumInferenceSteps', 1);
  const { seed, generator, ...common } = options;
  const prior = checkPriorRequest(priorOf(components), {
    ...{ prompt, negativePrompt, numImagesPerPrompt, latents, signal, seed, generator },
    guidanceScale: checkNumber(priorGuidanceScale, 'priorGuidanceScale'),
    onStep: onPriorStep,
  });
  const prompts = prior.hasNegatives ? prior.texts.length / 2 : prior.texts.length;
  const guidanceScale = checkGuidanceScale(options, decoderDefaults.guidanceScale);
  const decoder = checkGeneration(common, prompts, guidanceScale);
  const { numInferenceSteps = decoderDefaults.numInferenceSteps } = options;
  return {
    prior,
    priorNumInferenceSteps,
    decoder: { ...decoder, generator: perPicture(prior.generator, decoder.batch) },
    numInferenceSteps,
  };
}

/** Of several generators the decoder draws from the first ones, one per picture. */
function perPicture(
  generator: Generator | readonly Generator[],
  batch: number,
): Generator | readonly Generator[] {
  return Array.isArray(generator) ? generator.slice(0, batch) : generator;
}

/** Texts → embeddings → pictures. */
export async function drawCombined(
  components: Readonly<KandinskyCombinedComponents>,
  request: CombinedRequest,
  drawing: Omit<DecoderDrawing, 'imageEmbeds' | 'negativeImageEmbeds'>,
): Promise<Pictures> {
  const { prior, priorNumInferenceSteps, decoder } = request;
  const priorComponents = priorOf(components);
  using run = priorComponents.scheduler.start({ numInferenceSteps: priorNumInferenceSteps });
  prior.signal?.throwIfAborted();
  const { imageEmbeds, negativeImageEmbeds } = await drawEmbeddings(priorComponents, prior, run);
  using positive = imageEmbeds;
  using negative = negativeImageEmbeds;
  prior.signal?.throwIfAborted();
  const pictures = await drawFromEmbeddings(components, decoder, {
    ...drawing,
    imageEmbeds: [positive],
    negativeImageEmbeds: [negative],
  });
  return pictures;
}
