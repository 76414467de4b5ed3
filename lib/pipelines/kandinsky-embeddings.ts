// From texts to embeddings of pictures: what the prior's pipeline and the combined ones share.
import { familyDefaults } from '../defaults.js';
import type { Generator } from '../generator.js';
import { full, narrow, repeat } from '../ops.js';
import {
  checkFunction,
  checkGenerators,
  checkInteger,
  checkNumber,
  checkPrompt,
  checkSignal,
  checkTexts,
  defaults,
} from '../options.js';
import { rowLength, warnOfTruncation } from '../prompts/encode.js';
import { encodeForPrior } from '../prompts/encode-prior.js';
import type { SchedulerRun } from '../schedulers/scheduler.js';
import type { Tensor } from '../tensor.js';
import { Conditions } from './conditions.js';
import { denoise, type ProgressCallback } from './denoise.js';
import { checkLatents, firstNoise } from './first-noise.js';
import type { KandinskyPriorComponents } from './kandinsky-components.js';

/** Options of the prior. */
export interface KandinskyPriorOptions {
  /** One text or several. */
  prompt: string | readonly string[];
  /**
   * What the pictures should not show; one for all, or one per prompt. The prior then draws
   * embeddings of it too; without it they are those of an empty picture.
   */
  negativePrompt?: string | readonly string[];
  /** Embeddings per prompt; 1. */
  numImagesPerPrompt?: number;
  /** Steps of the schedule; 25. */
  numInferenceSteps?: number;
  /** How closely to follow the prompt; 4. At 1 or less there is no guidance. */
  guidanceScale?: number;
  /** A seed, or one per row: prompts × numImagesPerPrompt, twice as many with a negative prompt. */
  seed?: number | bigint | readonly (number | bigint)[];
  /** Instead of `seed`: a generator that goes on where it stands, or one per row. */
  generator?: Generator | readonly Generator[];
  /** Noise [rows,D] to start from, of standard deviation 1. Not disposed. */
  latents?: Tensor;
  /** Called after each step, and waited for. */
  onStep?: ProgressCallback;
  /** Stops within one step; the promise rejects with the signal's reason. */
  signal?: AbortSignal;
}

/** What the decoder draws from, [B,D] each; the caller disposes them. */
export interface KandinskyEmbeddings {
  /** [B,D]. You dispose it. */
  imageEmbeds: Tensor;
  /** [B,D]. You dispose it. */
  negativeImageEmbeds: Tensor;
}

export const priorDefaults = familyDefaults.kandinskyPrior;

/** The options after all checks. */
export interface PriorRequest {
  /** Texts to draw embeddings of: the prompts and, where they are given, their negatives. */
  texts: readonly string[];
  /** Texts to guide away from, one for each of `texts`. */
  unconditional: readonly string[];
  hasNegatives: boolean;
  copies: number;
  guidanceScale: number;
  generator: Generator | readonly Generator[];
  latents: Tensor | undefined;
  onStep: ProgressCallback | undefined;
  signal: AbortSignal | undefined;
}

/** @throws InvalidArgumentError before any network runs */
export function checkPriorRequest(
  { prior }: Readonly<KandinskyPriorComponents>,
  options: KandinskyPriorOptions,
): PriorRequest {
  const prompts = checkPrompt(options.prompt, 'prompt');
  const negatives = checkTexts(options.negativePrompt, 'negativePrompt', prompts.length);
  const copies = checkInteger(
    options.numImagesPerPrompt ?? defaults.numImagesPerPrompt,
    'numImagesPerPrompt',
    1,
  );
  const texts = [...prompts, ...(negatives ?? [])];
  const rows = texts.length * copies;
  checkFunction(options.onStep, 'onStep');
  checkSignal(options.signal);
  return {
    texts,
    unconditional: negatives === undefined ? texts.map(() => '') : [...negatives, ...negatives],
    hasNegatives: negatives !== undefined,
    copies,
    guidanceScale: checkNumber(
      options.guidanceScale ?? priorDefaults.guidanceScale,
      'guidanceScale',
    ),
    generator: checkGenerators(options, rows),
    latents: checkLatents(options.latents, [rows, prior.embeddingDim]),
    onStep: options.onStep,
    signal: options.signal,
  };
}

/** Denoises embeddings. @throws the signal's reason, within one step */
export async function drawEmbeddings(
  components: Readonly<KandinskyPriorComponents>,
  request: PriorRequest,
  run: SchedulerRun,
): Promise<KandinskyEmbeddings> {
  const { prior } = components;
  const { dtype, device } = prior.network;
  const guided = request.guidanceScale > 1;
  const rows = request.texts.length * request.copies;
  using conditions = await encodeTexts(components, request, guided);
  request.signal?.throwIfAborted();
  const like = { shape: [rows, prior.embeddingDim], dtype, device };
  using noise = firstNoise(like, request.latents, request.generator, run);
  using latents = await denoise({
    ...request,
    run,
    timesteps: run.timesteps,
    latents: noise,
    predict: (sample, timestep, isPair) => prior.predict(sample, timestep, conditions.of(isPair)),
    guided,
    guidanceRescale: 0,
    eta: 0,
  });
  using embeddings = await prior.denormalize(latents);
  if (!request.hasNegatives) {
    const negativeImageEmbeds = await emptyPicture(components, rows);
    return { imageEmbeds: embeddings.alias(), negativeImageEmbeds };
  }
  return {
    imageEmbeds: narrow(embeddings, 0, 0, rows / 2),
    negativeImageEmbeds: narrow(embeddings, 0, rows / 2, rows / 2),
  };
}

/** The embedding of a picture of nothing but mean values, [rows,D]. */
export async function emptyPicture(
  { imageEncoder }: Readonly<KandinskyPriorComponents>,
  rows: number,
): Promise<Tensor> {
  const { network, imageSize: side } = imageEncoder;
  using pixels = full([1, 3, side, side], 0, network);
  using embedding = await imageEncoder.encode(pixels);
  return repeat(embedding, [rows, 1]);
}

async function encodeTexts(
  { tokenizer, textEncoder }: Readonly<KandinskyPriorComponents>,
  { texts, unconditional, copies }: PriorRequest,
  guided: boolean,
) {
  warnOfTruncation(tokenizer, texts, rowLength(tokenizer, textEncoder));
  const positive = await encodeForPrior(tokenizer, textEncoder, texts, copies);
  if (!guided) return Conditions.fromHalves({ ...positive }, undefined);
  try {
    const negative = await encodeForPrior(tokenizer, textEncoder, unconditional, copies);
    return Conditions.fromHalves({ ...positive }, { ...negative });
  } catch (error) {
    for (const tensor of Object.values(positive)) tensor.dispose();
    throw error;
  }
}
