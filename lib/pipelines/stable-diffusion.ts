// Stable Diffusion 1.x and 2.x: what text-to-image and image-to-image have in common, which is all
// but where the first latents come from.
import { expected, InvalidArgumentError } from '../errors.js';
import type { Autoencoder } from '../networks/autoencoder.js';
import type { SafetyChecker } from '../networks/safety-checker.js';
import type { TextEncoder } from '../networks/text-encoder.js';
import type { UNet } from '../networks/unet.js';
import {
  checkInteger,
  checkNegativePrompts,
  checkPrompt,
  checkTensor,
  defaults,
} from '../options.js';
import {
  checkEmbeddingLength,
  encodePrompts,
  type PromptOptions,
  rowLength,
} from '../prompts/encode.js';
import {
  checkWeighting,
  encodeWeightedPrompts,
  type Weighting,
} from '../prompts/weighted-prompts.js';
import { type Scheduler, schedulerFromConfig } from '../schedulers/index.js';
import type { SchedulerRun } from '../schedulers/scheduler.js';
import type { Tensor } from '../tensor.js';
import type { ClipTokenizer } from '../tokenizer/index.js';
import type { PipelineFamily } from './components.js';
import { Conditions } from './conditions.js';
import type { ControlGuide } from './controlnet-guide.js';
import { misfitOfEmbeddings, misfitOfLatents, misfitOfPlaces, misfitOfTokens } from './fit.js';
import {
  checkEta,
  checkGeneration,
  checkGuidanceRescale,
  checkGuidanceScale,
  draw,
  type GenerationOptions,
  type GenerationRequest,
  generationOptionNames,
  type Pictures,
  type ScheduleOptions,
} from './generation.js';
import {
  autoencoderKind,
  safetyCheckerKind,
  schedulerKind,
  textEncoderKind,
  tokenizerKind,
  unetKind,
} from './kinds.js';

/** What a Stable Diffusion pipeline works with. Pipelines share components and count holders. */
export interface StableDiffusionComponents {
  /** The autoencoder. */
  vae: Autoencoder;
  /** Encodes prompts. */
  textEncoder: TextEncoder;
  /** Splits prompts for the text encoder. */
  tokenizer: ClipTokenizer;
  /** Denoises. */
  unet: UNet;
  /** The sampling algorithm. */
  scheduler: Scheduler;
  /** Blackens pictures that its checkpoint's authors did not want drawn. */
  safetyChecker?: SafetyChecker;
}

export const stableDiffusion: PipelineFamily<StableDiffusionComponents> = {
  slots: {
    scheduler: { name: 'scheduler', kind: schedulerKind },
    textEncoder: { name: 'text_encoder', kind: textEncoderKind },
    vae: { name: 'vae', kind: autoencoderKind },
    unet: { name: 'unet', kind: unetKind },
    tokenizer: { name: 'tokenizer', kind: tokenizerKind },
    safetyChecker: { name: 'safety_checker', kind: safetyCheckerKind, optional: true },
  },
  config: {},
  misfit: (components) =>
    misfitOfLatents(components) ??
    misfitOfEmbeddings(components.unet, [components.textEncoder]) ??
    misfitOfTokens(components.tokenizer, components.textEncoder) ??
    misfitOfPlaces(components),
  mendScheduler,
};

/**
 * What StableDiffusionPipeline's constructor mends in old scheduler configs: steps_offset is 1 and
 * clip_sample is false, whatever the file says. Schedulers set later are taken as they are.
 */
function mendScheduler(scheduler: Scheduler): Scheduler {
  const { config } = scheduler;
  const fixes: Record<string, unknown> = {};
  if ('stepsOffset' in config && config.stepsOffset !== 1) fixes.stepsOffset = 1;
  if ('clipSample' in config && config.clipSample === true) fixes.clipSample = false;
  if (Object.keys(fixes).length === 0) return scheduler;
  // A field that the file left out still counts as unset, so that another class made from this
  // configuration takes its own default, as in diffusers.
  return schedulerFromConfig(config, { ...fixes, _useDefaultValues: config._useDefaultValues });
}

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

/** The options after all checks. */
export interface StableDiffusionRequest extends GenerationRequest {
  prompt: PromptOptions;
  guidanceRescale: number;
  eta: number;
  /** What a distilled UNet is told instead of running twice; undefined for others. */
  toldGuidance: number | undefined;
}

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
export function checkPrompts(
  components: Pick<StableDiffusionComponents, 'textEncoder' | 'tokenizer' | 'unet'>,
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
    weighting: checkWeighting(options),
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
  throw expected(`[B, L, ${String(width)}]`, name, `[${tensor.shape.join(', ')}]`);
}

function checkClipSkip(value: unknown, layers: number): number | undefined {
  if (value === undefined || value === null) return undefined;
  const skip = checkInteger(value, 'clipSkip', 0);
  if (skip >= layers) throw expected(`at most ${layers - 1}`, 'clipSkip', skip);
  return skip;
}

/** What differs between the pipelines. */
export interface StableDiffusionDrawing {
  run: SchedulerRun;
  /**
   * The noisy latents of the first step; called after the prompt is encoded, as the order of random
   * draws demands.
   */
  firstLatents(): Promise<Tensor>;
  /** Adds to the UNet's skip connections; the caller's to dispose. */
  control?: ControlGuide;
}

/** Prompt → latents → denoising → output. */
export async function generate(
  components: Readonly<StableDiffusionComponents>,
  request: StableDiffusionRequest,
  { run, firstLatents, control }: StableDiffusionDrawing,
): Promise<Pictures> {
  const { unet, vae, safetyChecker } = components;
  using conditions = await encodeConditions(components, request.prompt);
  request.signal?.throwIfAborted();
  using latents = await firstLatents();
  using timestepCond = unet.guidanceEmbedding(request.toldGuidance);
  const pictures = await draw({
    request,
    run,
    latents,
    guided: request.prompt.guided,
    guidanceRescale: request.guidanceRescale,
    eta: request.eta,
    predict: async (sample, timestep, guided, step) => {
      const { promptEmbeds } = conditions.of(guided);
      const pass = { sample, timestep, promptEmbeds };
      using residuals = await control?.residuals(pass, guided, step);
      return await unet.predict(sample, timestep, promptEmbeds, { timestepCond, residuals });
    },
    decoder: vae,
    safetyChecker,
  });
  return pictures;
}

export async function encodeConditions(
  { tokenizer, textEncoder }: Pick<StableDiffusionComponents, 'textEncoder' | 'tokenizer'>,
  prompt: PromptOptions,
): Promise<Conditions<'promptEmbeds'>> {
  const encode = prompt.weighting === undefined ? encodePrompts : encodeWeightedPrompts;
  const { positive, negative } = await encode(tokenizer, textEncoder, prompt);
  return Conditions.fromHalves({ promptEmbeds: positive }, negative && { promptEmbeds: negative });
}
