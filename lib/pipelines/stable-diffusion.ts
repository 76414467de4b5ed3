// Stable Diffusion 1.x and 2.x: what text-to-image and image-to-image have in common, which is all
// but where the first latents come from.
import { expected, InvalidArgumentError } from '../errors.js';
import type { Generator } from '../generator.js';
import type { Image } from '../image.js';
import { postprocessToImages } from '../images/preprocess.js';
import type { Autoencoder } from '../networks/autoencoder.js';
import { addScalar, clamp, linearCombination, narrow } from '../ops.js';
import {
  checkChoice,
  checkFunction,
  checkGenerators,
  checkInteger,
  checkNumber,
  checkPrompt,
  checkSignal,
  checkTensor,
  defaults,
  type OutputType,
} from '../options.js';
import {
  checkEmbeddingLength,
  encodePrompts,
  type PromptOptions,
  rowLength,
} from '../prompts/encode.js';
import type { SchedulerRun, StartOptions } from '../schedulers/scheduler.js';
import type { Tensor } from '../tensor.js';
import type { StableDiffusionComponents } from './components.js';
import { denoise, type StepCallback } from './denoise.js';

/** Options that text-to-image and image-to-image share; diffusers' names and defaults. */
export interface StableDiffusionOptions {
  /** One text, or one per picture of a batch. Not together with `promptEmbeds`. */
  prompt?: string | readonly string[];
  /** What the picture should not show; one for all, or one per prompt. Needs guidance above 1. */
  negativePrompt?: string | readonly string[];
  /** Steps of the whole schedule, before `strength` shortens it; 50. */
  numInferenceSteps?: number;
  /** Custom timesteps, descending, for schedulers that take them; instead of numInferenceSteps. */
  timesteps?: readonly number[];
  /** Custom noise levels, descending, for schedulers that take them; instead of numInferenceSteps. */
  sigmas?: readonly number[];
  /** How closely to follow the prompt; 7.5. At 1 or less the negative prompt plays no part. */
  guidanceScale?: number;
  /** Pictures per prompt; 1. */
  numImagesPerPrompt?: number;
  /** Fresh noise of DDIM, 0 (default) to 1. */
  eta?: number;
  /** A seed, or one per picture: the picture that Python draws from it. At random unless given. */
  seed?: number | bigint | readonly (number | bigint)[];
  /** Instead of `seed`: a generator that goes on where it stands, or one per picture. */
  generator?: Generator | readonly Generator[];
  /** Embeddings [B,L,D] instead of `prompt`. Not disposed. */
  promptEmbeds?: Tensor;
  /** Embeddings [B,L,D] instead of `negativePrompt`; shaped as `promptEmbeds`. Not disposed. */
  negativePromptEmbeds?: Tensor;
  /** Skips so many of the text encoder's last layers. */
  clipSkip?: number;
  /** `'image'` (default), `'tensor'` ([B,3,H,W] in 0..1) or `'latent'` ([B,C,h,w], scaled). */
  outputType?: OutputType;
  /** Called after each step, and waited for. */
  onStep?: StepCallback;
  /** Stops within one step; the promise rejects with the signal's reason. */
  signal?: AbortSignal;
}

export const stableDiffusionOptionNames = [
  'prompt',
  'negativePrompt',
  'numInferenceSteps',
  'timesteps',
  'sigmas',
  'guidanceScale',
  'numImagesPerPrompt',
  'eta',
  'seed',
  'generator',
  'promptEmbeds',
  'negativePromptEmbeds',
  'clipSkip',
  'outputType',
  'onStep',
  'signal',
];

/** The options after all checks. */
export interface Request {
  prompt: PromptOptions;
  /** Pictures in all: prompts × numImagesPerPrompt. */
  batch: number;
  guidanceScale: number;
  guidanceRescale: number;
  eta: number;
  generator: Generator | readonly Generator[];
  outputType: OutputType;
  onStep: StepCallback | undefined;
  signal: AbortSignal | undefined;
}

/** @throws InvalidArgumentError before any network runs */
export function checkRequest(
  components: Readonly<StableDiffusionComponents>,
  options: StableDiffusionOptions & { guidanceRescale?: number },
): Request {
  const guidanceScale = checkNumber(
    options.guidanceScale ?? defaults.guidanceScale,
    'guidanceScale',
  );
  const guided = guidanceScale > 1 && components.unet.timeCondProjDim === undefined;
  const prompt = checkPrompts(components, options, guided);
  const prompts = prompt.prompts?.length ?? (prompt.promptEmbeds?.shape[0] as number);
  const batch = prompts * prompt.numImagesPerPrompt;
  checkFunction(options.onStep, 'onStep');
  checkSignal(options.signal);
  return {
    prompt,
    batch,
    guidanceScale,
    guidanceRescale: checkNumber(
      options.guidanceRescale ?? defaults.guidanceRescale,
      'guidanceRescale',
      { min: 0, max: 1 },
    ),
    eta: checkNumber(options.eta ?? defaults.eta, 'eta', { min: 0, max: 1 }),
    generator: checkGenerators(options, batch),
    outputType: checkChoice(options.outputType ?? defaults.outputType, 'outputType', [
      'image',
      'tensor',
      'latent',
    ]),
    onStep: options.onStep,
    signal: options.signal,
  };
}

function checkPrompts(
  components: Readonly<StableDiffusionComponents>,
  options: StableDiffusionOptions,
  guided: boolean,
): PromptOptions {
  const { prompt, promptEmbeds, negativePrompt, negativePromptEmbeds } = options;
  exactlyOne('prompt', prompt, 'promptEmbeds', promptEmbeds);
  if (negativePrompt !== undefined && negativePromptEmbeds !== undefined) {
    throw new InvalidArgumentError(
      'Expected one of negativePrompt and negativePromptEmbeds but received both.',
    );
  }
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
    throw expected(
      `the shape [${embeds.shape.join(', ')}] of promptEmbeds`,
      'negativePromptEmbeds',
      `[${negativeEmbeds.shape.join(', ')}]`,
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
    negativePrompts: checkNegativePrompts(negativePrompt, count),
    promptEmbeds: embeds,
    negativePromptEmbeds: negativeEmbeds,
    guided,
    numImagesPerPrompt: checkInteger(
      options.numImagesPerPrompt ?? defaults.numImagesPerPrompt,
      'numImagesPerPrompt',
      1,
    ),
    clipSkip: checkClipSkip(options.clipSkip, textEncoder.layers),
  };
  checkEmbeddingLength(checked, components.tokenizer, textEncoder);
  return checked;
}

function exactlyOne(first: string, a: unknown, second: string, b: unknown): void {
  if ((a === undefined) !== (b === undefined)) return;
  const received = a === undefined ? 'neither' : 'both';
  throw new InvalidArgumentError(
    `Expected one of ${first} and ${second} but received ${received}.`,
  );
}

function checkNegativePrompts(value: unknown, count: number): string[] | undefined {
  if (value === undefined) return undefined;
  const texts = checkPrompt(value, 'negativePrompt');
  if (typeof value === 'string') return Array.from({ length: count }, () => value);
  if (texts.length !== count)
    throw expected(`${count} texts, one per prompt,`, 'negativePrompt', texts);
  return texts;
}

function checkEmbeddings(
  value: Tensor | undefined,
  name: string,
  { unet }: Readonly<StableDiffusionComponents>,
): Tensor | undefined {
  if (value === undefined) return undefined;
  const tensor = checkTensor(value, name, 3);
  const width = unet.network.config.cross_attention_dim;
  const fits = typeof width !== 'number' || tensor.shape[2] === width;
  if (fits && tensor.size > 0) return tensor;
  throw expected(`[B, L, ${String(width)}]`, name, `[${tensor.shape.join(', ')}]`);
}

function checkClipSkip(value: unknown, layers: number): number | undefined {
  if (value === undefined || value === null) return undefined;
  const skip = checkInteger(value, 'clipSkip', 0);
  if (skip >= layers) throw expected(`at most ${layers - 1}`, 'clipSkip', skip);
  return skip;
}

/** The schedule that the options ask for. @throws InvalidArgumentError */
export function startOptions(options: StableDiffusionOptions, strength?: number): StartOptions {
  const { timesteps, sigmas, numInferenceSteps } = options;
  if (timesteps !== undefined && sigmas !== undefined) {
    throw new InvalidArgumentError('Expected one of timesteps and sigmas but received both.');
  }
  if (timesteps !== undefined) return { timesteps, strength };
  if (sigmas !== undefined) return { sigmas, strength };
  return { numInferenceSteps: numInferenceSteps ?? defaults.numInferenceSteps, strength };
}

/**
 * Prompt → latents → denoising → output. `firstLatents` makes the noisy latents of the first step;
 * it is called after the prompt is encoded, as the order of random draws demands.
 */
export async function generate(
  components: Readonly<StableDiffusionComponents>,
  request: Request,
  run: SchedulerRun,
  firstLatents: () => Promise<Tensor>,
): Promise<Image[] | Tensor> {
  const { unet, vae } = components;
  using embeddings = await encodePrompts(
    components.tokenizer,
    components.textEncoder,
    request.prompt,
  );
  request.signal?.throwIfAborted();
  using latents = await firstLatents();
  using condition = unet.guidanceEmbedding(request.guidanceScale, request.batch);
  const half = embeddings.shape[0] === request.batch ? 0 : request.batch;
  using positive = narrow(embeddings, 0, half, request.batch);
  using denoised = await denoise({
    ...request,
    run,
    latents,
    guided: request.prompt.guided,
    predict: (sample, timestep, guided) =>
      unet.predict(sample, timestep, guided ? embeddings : positive, { timestepCond: condition }),
    preview: async (current) => {
      using picture = await decode(vae, current);
      return await toImages(picture);
    },
  });
  if (request.outputType === 'latent') return denoised.alias();
  using picture = await decode(vae, denoised);
  request.signal?.throwIfAborted();
  return request.outputType === 'tensor' ? picture.alias() : await toImages(picture);
}

/** The picture of scaled latents, [B,3,H,W] in 0..1, clamped. */
async function decode(vae: Autoencoder, latents: Tensor): Promise<Tensor> {
  using pixels = await vae.decode(latents);
  using halved = linearCombination([0.5], [pixels], { dtype: 'float32' });
  using shifted = addScalar(halved, 0.5);
  return clamp(shifted, 0, 1);
}

async function toImages(picture: Tensor): Promise<Image[]> {
  const { shape } = picture;
  return postprocessToImages(await picture.toFloat32Array(), shape);
}
