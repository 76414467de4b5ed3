// The parts of Kandinsky 2.2: a prior, which makes a picture's embedding of a text, and a decoder,
// which makes the picture of it. They are published as two checkpoints.
import type { ClipPreprocessor } from '../images/clip-preprocess.js';
import type { MoVQ } from '../networks/movq.js';
import type { Prior } from '../networks/prior.js';
import type { TextEncoder } from '../networks/text-encoder.js';
import { numberOr, type UNet } from '../networks/unet.js';
import type { VisionEncoder } from '../networks/vision-encoder.js';
import { rowLength } from '../prompts/encode.js';
import type { Scheduler } from '../schedulers/index.js';
import type { ClipTokenizer } from '../tokenizer/index.js';
import type { PipelineFamily } from './components.js';
import { misfitOfPlaces, misfitOfTokens } from './fit.js';
import {
  movqKind,
  preprocessorKind,
  priorKind,
  schedulerKind,
  textEncoderKind,
  tokenizerKind,
  unetKind,
  visionEncoderKind,
} from './kinds.js';

/** What draws embeddings of pictures from texts. */
export interface KandinskyPriorComponents {
  /** Draws the embeddings. */
  prior: Prior;
  /** Of the prior. */
  textEncoder: TextEncoder;
  /** Of the text encoder. */
  tokenizer: ClipTokenizer;
  /** The sampling algorithm of the prior: UnCLIP. */
  scheduler: Scheduler;
  /** Gives embeddings of pictures, for interpolation and for the empty picture. */
  imageEncoder: VisionEncoder;
  /** How pictures are prepared for the image encoder. */
  imageProcessor: ClipPreprocessor;
}

/** What draws pictures from embeddings. */
export interface KandinskyDecoderComponents {
  /** Denoises. */
  unet: UNet;
  /** The sampling algorithm. */
  scheduler: Scheduler;
  /** The autoencoder. */
  movq: MoVQ;
}

/** The decoder's parts under their own names, and the prior's as `prior…`. */
export type KandinskyCombinedComponents = KandinskyDecoderComponents & {
  [Name in keyof KandinskyPriorComponents as `prior${Capitalize<Name>}`]: KandinskyPriorComponents[Name];
};

export const kandinskyPrior: PipelineFamily<KandinskyPriorComponents> = {
  slots: {
    scheduler: { name: 'scheduler', kind: schedulerKind },
    prior: { name: 'prior', kind: priorKind },
    textEncoder: { name: 'text_encoder', kind: textEncoderKind },
    imageEncoder: { name: 'image_encoder', kind: visionEncoderKind },
    tokenizer: { name: 'tokenizer', kind: tokenizerKind },
    imageProcessor: { name: 'image_processor', kind: preprocessorKind },
  },
  config: {},
  misfit: misfitOfPrior,
};

const decoderSlots: PipelineFamily<KandinskyDecoderComponents>['slots'] = {
  scheduler: { name: 'scheduler', kind: schedulerKind },
  unet: { name: 'unet', kind: unetKind },
  movq: { name: 'movq', kind: movqKind },
};

export const kandinskyDecoder: PipelineFamily<KandinskyDecoderComponents> = {
  slots: decoderSlots,
  config: {},
  misfit: misfitOfDecoder,
};

export const kandinskyCombined: PipelineFamily<KandinskyCombinedComponents> = {
  slots: {
    ...decoderSlots,
    priorScheduler: { name: 'prior_scheduler', kind: schedulerKind },
    priorPrior: { name: 'prior_prior', kind: priorKind },
    priorTextEncoder: { name: 'prior_text_encoder', kind: textEncoderKind },
    priorImageEncoder: { name: 'prior_image_encoder', kind: visionEncoderKind },
    priorTokenizer: { name: 'prior_tokenizer', kind: tokenizerKind },
    priorImageProcessor: { name: 'prior_image_processor', kind: preprocessorKind },
  },
  config: {},
  connected: 'prior',
  misfit: (components) =>
    misfitOfPrior(priorOf(components)) ??
    misfitOfDecoder(components) ??
    misfitOfHalves(components) ??
    misfitOfPlaces(components),
};

/** The prior's parts under the prior's own names. */
export function priorOf(
  components: Readonly<KandinskyCombinedComponents>,
): Readonly<KandinskyPriorComponents> {
  return {
    prior: components.priorPrior,
    textEncoder: components.priorTextEncoder,
    tokenizer: components.priorTokenizer,
    scheduler: components.priorScheduler,
    imageEncoder: components.priorImageEncoder,
    imageProcessor: components.priorImageProcessor,
  };
}

/** Width of the embeddings that the decoder takes. */
export function embeddingWidth({ network }: UNet): number {
  return numberOr(network.config.encoder_hid_dim, 0);
}

function misfitOfPrior(components: Readonly<KandinskyPriorComponents>): string | undefined {
  const { prior, textEncoder, tokenizer, imageEncoder } = components;
  const { embedding_proj_dim: projected, clip_embed_dim: made } = prior.network.config;
  const width = prior.embeddingDim;
  if (textEncoder.projectionDim === undefined) {
    return `the text encoder is a ${textEncoder.network.className}, which has no projection`;
  }
  if (textEncoder.width !== width || textEncoder.projectionDim !== numberOr(projected, width)) {
    return `the prior takes embeddings of width ${width} and the text encoder makes ${textEncoder.width}, projected to ${textEncoder.projectionDim}`;
  }
  if (imageEncoder.projectionDim !== numberOr(made, width)) {
    return `the prior makes embeddings of width ${numberOr(made, width)} and the image encoder ${imageEncoder.projectionDim}`;
  }
  const length = rowLength(tokenizer, textEncoder);
  if (length !== prior.maxTokens) {
    return `the prior takes rows of ${prior.maxTokens} tokens and the tokenizer makes ${length}`;
  }
  return misfitOfTokens(tokenizer, textEncoder) ?? misfitOfPlaces(components);
}

function misfitOfDecoder(components: Readonly<KandinskyDecoderComponents>): string | undefined {
  const { unet, movq } = components;
  const { encoder_hid_dim_type: projection, addition_embed_type: addition } = unet.network.config;
  if (projection !== 'image_proj' || addition !== 'image') {
    return 'the unet takes no embeddings of pictures and is not made for Kandinsky 2.2';
  }
  if (unet.inChannels !== movq.latentChannels) {
    return `the unet takes ${unet.inChannels} channels and the movq makes ${movq.latentChannels}`;
  }
  return misfitOfPlaces(components);
}

function misfitOfHalves({
  unet,
  priorImageEncoder,
}: Readonly<KandinskyCombinedComponents>): string | undefined {
  const [taken, made] = [embeddingWidth(unet), priorImageEncoder.projectionDim];
  if (taken === made) return undefined;
  return `the decoder takes embeddings of width ${taken} and the prior makes ${made}`;
}
