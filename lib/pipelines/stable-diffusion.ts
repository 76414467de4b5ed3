// Stable Diffusion 1.x and 2.x: what text-to-image and image-to-image have in common, which is all
// but where the first latents come from.
import type { Autoencoder } from '../networks/autoencoder.js';
import type { SafetyChecker } from '../networks/safety-checker.js';
import type { TextEncoder } from '../networks/text-encoder.js';
import type { UNet } from '../networks/unet.js';
import { encodePrompts, type PromptOptions } from '../prompts/encode.js';
import { encodeWeightedPrompts } from '../prompts/weighted-prompts.js';
import { type Scheduler, schedulerFromConfig } from '../schedulers/index.js';
import type { SchedulerRun } from '../schedulers/scheduler.js';
import type { Tensor } from '../tensor.js';
import type { ClipTokenizer } from '../tokenizer/index.js';
import type { PipelineFamily } from './components.js';
import { Conditions } from './conditions.js';
import type { ControlGuide } from './controlnet-guide.js';
import { misfitOfEmbeddings, misfitOfLatents, misfitOfPlaces, misfitOfTokens } from './fit.js';
import { draw, type GenerationRequest, type Pictures } from './generation.js';
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

/** The options after all checks. */
export interface StableDiffusionRequest extends GenerationRequest {
  prompt: PromptOptions;
  guidanceRescale: number;
  eta: number;
  /** What a distilled UNet is told instead of running twice; undefined for others. */
  toldGuidance: number | undefined;
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
