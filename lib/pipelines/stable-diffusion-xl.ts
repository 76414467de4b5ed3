// Stable Diffusion XL, base and refiner: what text-to-image and image-to-image have in common.
import type { Autoencoder } from '../networks/autoencoder.js';
import type { TextEncoder } from '../networks/text-encoder.js';
import type { UNet } from '../networks/unet.js';
import { encodePromptsXL, type XLPromptOptions } from '../prompts/encode-xl.js';
import type { PromptEncoder } from '../prompts/row-encoder.js';
import { encodeWeightedXL } from '../prompts/weighted-prompts.js';
import type { Scheduler } from '../schedulers/index.js';
import type { SchedulerRun } from '../schedulers/scheduler.js';
import type { Tensor } from '../tensor.js';
import type { ClipTokenizer } from '../tokenizer/index.js';
import type { PipelineFamily } from './components.js';
import { Conditions } from './conditions.js';
import type { ControlGuide } from './controlnet-guide.js';
import { misfitOfEmbeddings, misfitOfLatents, misfitOfPlaces, misfitOfTokens } from './fit.js';
import { type Drawing, draw, type GenerationRequest, type Pictures } from './generation.js';
import {
  schedulerKind,
  textEncoderKind,
  tokenizerKind,
  unetKind,
  upcastAutoencoderKind,
} from './kinds.js';
import { type TimeIds, timeIdTensor } from './stable-diffusion-xl-time-ids.js';

/** What a Stable Diffusion XL pipeline works with. The refiner has only the second text encoder. */
export interface StableDiffusionXLComponents {
  /** The autoencoder. */
  vae: Autoencoder;
  /** The first text encoder; a refiner has none. */
  textEncoder?: TextEncoder;
  /**
   * The second text encoder, whose embedding of the whole text is used too; a refiner has no other.
   */
  textEncoder2: TextEncoder;
  /** Splits prompts for the first text encoder; a refiner has none. */
  tokenizer?: ClipTokenizer;
  /** Splits prompts for the second text encoder. */
  tokenizer2: ClipTokenizer;
  /** Denoises. */
  unet: UNet;
  /** The sampling algorithm. */
  scheduler: Scheduler;
}

const slots: PipelineFamily<StableDiffusionXLComponents>['slots'] = {
  scheduler: { name: 'scheduler', kind: schedulerKind },
  textEncoder: { name: 'text_encoder', kind: textEncoderKind, optional: true },
  textEncoder2: { name: 'text_encoder_2', kind: textEncoderKind },
  vae: { name: 'vae', kind: upcastAutoencoderKind },
  unet: { name: 'unet', kind: unetKind },
  tokenizer: { name: 'tokenizer', kind: tokenizerKind, optional: true },
  tokenizer2: { name: 'tokenizer_2', kind: tokenizerKind },
};

export const stableDiffusionXL: PipelineFamily<StableDiffusionXLComponents> = {
  slots,
  config: { forceZerosForEmptyPrompt: true },
  misfit: (components) => misfit(components, 6),
};

export const stableDiffusionXLImg2Img: PipelineFamily<StableDiffusionXLComponents> = {
  slots,
  config: { forceZerosForEmptyPrompt: true, requiresAestheticsScore: false },
  misfit: (components, config) => misfit(components, config.requiresAestheticsScore ? 5 : 6),
};

/** @param ids How many numbers the pipeline tells the UNet beside the pooled text. */
function misfit(
  components: Readonly<StableDiffusionXLComponents>,
  ids: number,
): string | undefined {
  const { unet, textEncoder, tokenizer, textEncoder2 } = components;
  if ((textEncoder === undefined) !== (tokenizer === undefined)) {
    return 'of the first text encoder and its tokenizer one is missing';
  }
  if (textEncoder2.projectionDim === undefined) {
    return `text_encoder_2 is a ${textEncoder2.network.className}, which has no projection`;
  }
  const { addition_time_embed_dim: dimension, projection_class_embeddings_input_dim: width } =
    unet.network.config;
  if (typeof dimension !== 'number' || typeof width !== 'number') {
    return 'the unet takes no sizes and is not made for Stable Diffusion XL';
  }
  const given = dimension * ids + textEncoder2.projectionDim;
  if (given !== width) {
    return `the unet takes ${width} numbers beside the prompt and the pipeline makes ${given} (${ids} sizes and scores): refiners are for image-to-image with requiresAestheticsScore, other checkpoints go without`;
  }
  const encoders = encodersOf(components);
  const embeddings = encoders.map(({ encoder }) => encoder);
  return (
    misfitOfLatents(components) ??
    misfitOfEmbeddings(unet, embeddings) ??
    encoders.map((one) => misfitOfTokens(one.tokenizer, one.encoder)).find(Boolean) ??
    misfitOfPlaces(components)
  );
}

/** Both text encoders with their tokenizers, or the refiner's one. */
export function encodersOf(components: Readonly<StableDiffusionXLComponents>): PromptEncoder[] {
  const { textEncoder, tokenizer, textEncoder2, tokenizer2 } = components;
  const second = { encoder: textEncoder2, tokenizer: tokenizer2 };
  if (textEncoder === undefined || tokenizer === undefined) return [second];
  return [{ encoder: textEncoder, tokenizer }, second];
}

/** The options after all checks. */
export interface StableDiffusionXLRequest extends GenerationRequest {
  prompt: XLPromptOptions;
  guidanceRescale: number;
  eta: number;
  /** What a distilled UNet is told instead of running twice; undefined for others. */
  toldGuidance: number | undefined;
}

/** What differs between text-to-image and image-to-image. */
export interface XLDrawing extends Pick<Drawing, 'timesteps'> {
  run: SchedulerRun;
  /** Called after the prompt is encoded, as the order of random draws demands. */
  firstLatents(): Promise<Tensor>;
  /** For a picture of [height, width] pixels. */
  timeIds(size: readonly [number, number]): TimeIds;
  /** Whether the rows of both halves of the batch take turns, as in diffusers' text-to-image. */
  alternating: boolean;
  /** Adds to the UNet's skip connections; the caller's to dispose. */
  control?: ControlGuide;
}

/** Prompt → latents → denoising → output. */
export async function generateXL(
  components: Readonly<StableDiffusionXLComponents>,
  request: StableDiffusionXLRequest,
  drawing: XLDrawing,
): Promise<Pictures> {
  const { unet, vae } = components;
  const { control } = drawing;
  const encode = request.prompt.weighting === undefined ? encodePromptsXL : encodeWeightedXL;
  const encoded = await encode(encodersOf(components), request.prompt);
  using prompts = Conditions.fromHalves({ ...encoded.positive }, encoded.negative);
  request.signal?.throwIfAborted();
  using latents = await drawing.firstLatents();
  const [, , rows = 0, columns = 0] = latents.shape;
  const ids = drawing.timeIds([rows * vae.scaleFactor, columns * vae.scaleFactor]);
  using sizes = timeIdRows(ids, request, unet.network, drawing.alternating);
  using timestepCond = unet.guidanceEmbedding(request.toldGuidance);
  const pictures = await draw({
    request,
    run: drawing.run,
    timesteps: drawing.timesteps ?? drawing.run.timesteps,
    latents,
    guided: request.prompt.guided,
    guidanceRescale: request.guidanceRescale,
    eta: request.eta,
    predict: async (sample, timestep, guided, step) => {
      const { promptEmbeds, textEmbeds } = prompts.of(guided);
      const { timeIds } = sizes.of(guided);
      const pass = { sample, timestep, promptEmbeds, textEmbeds, timeIds };
      using residuals = await control?.residuals(pass, guided, step);
      const conditions = { timestepCond, textEmbeds, timeIds, residuals };
      return await unet.predict(sample, timestep, promptEmbeds, conditions);
    },
    decoder: vae,
  });
  return pictures;
}

function timeIdRows(
  { positive, negative }: TimeIds,
  { batch, prompt }: StableDiffusionXLRequest,
  place: Pick<Tensor, 'dtype' | 'device'>,
  alternating: boolean,
): Conditions<'timeIds'> {
  const rows = (row: readonly number[]) => Array.from({ length: batch }, () => row);
  const both = alternating
    ? rows(negative).flatMap((row) => [row, positive])
    : [...rows(negative), ...rows(positive)];
  return Conditions.fromBoth(
    { timeIds: timeIdTensor(rows(positive), place) },
    prompt.guided ? { timeIds: timeIdTensor(both, place) } : undefined,
  );
}
