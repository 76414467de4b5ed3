// From embeddings of pictures to pictures: what all of Kandinsky's decoding pipelines share.
import { familyDefaults } from '../defaults.js';
import { expected, expectedShape, InvalidArgumentError } from '../errors.js';
import type { UNet } from '../networks/unet.js';
import { concat, narrow, repeatInterleave } from '../ops.js';
import { checkTensor } from '../options.js';
import type { Scheduler } from '../schedulers/index.js';
import type { SchedulerRun } from '../schedulers/scheduler.js';
import type { Tensor } from '../tensor.js';
import { Conditions } from './conditions.js';
import {
  draw,
  type GenerationOptions,
  type GenerationRequest,
  generationOptionNames,
  type Pictures,
} from './generation.js';
import { embeddingWidth, type KandinskyDecoderComponents } from './kandinsky-components.js';

/** Options of the decoder, text-to-image and image-to-image. */
export interface KandinskyDecoderOptions extends GenerationOptions {
  /** Embeddings [B,D] of the pictures to draw, as the prior makes them; a list is joined. */
  imageEmbeds: Tensor | readonly Tensor[];
  /** Embeddings [B,D] of what the pictures should not show. Needed for guidance above 1. */
  negativeImageEmbeds?: Tensor | readonly Tensor[];
  /** Pixels; 512. */
  height?: number;
  /** Pixels; as `height`. */
  width?: number;
}

export const decoderOptionNames = [
  ...generationOptionNames,
  'imageEmbeds',
  'negativeImageEmbeds',
  'height',
  'width',
];

export const decoderDefaults = { ...familyDefaults.kandinsky, side: 512 } as const;

/** Embeddings [n,D] each, whose rows together are those of the batch before it is multiplied. */
export interface EmbeddingLists {
  imageEmbeds: readonly Tensor[];
  /** Empty without guidance. */
  negativeImageEmbeds: readonly Tensor[];
}

/** @throws InvalidArgumentError before any network runs */
export function checkEmbeddings(
  options: KandinskyDecoderOptions,
  { unet }: Readonly<KandinskyDecoderComponents>,
  guided: boolean,
): EmbeddingLists {
  const imageEmbeds = checkEmbeddingList(options.imageEmbeds, 'imageEmbeds', unet);
  const { negativeImageEmbeds: negative } = options;
  if (negative === undefined) {
    if (!guided) return { imageEmbeds, negativeImageEmbeds: [] };
    throw new InvalidArgumentError(
      'Expected negativeImageEmbeds, which guidance above 1 needs. The prior makes both: pass what its generate() gives.',
    );
  }
  const negativeImageEmbeds = checkEmbeddingList(negative, 'negativeImageEmbeds', unet);
  const [rows, negativeRows] = [rowsOf(imageEmbeds), rowsOf(negativeImageEmbeds)];
  if (rows === negativeRows) return { imageEmbeds, negativeImageEmbeds };
  throw expected(`${rows} rows, as imageEmbeds has,`, 'negativeImageEmbeds', negativeRows);
}

function checkEmbeddingList(value: unknown, name: string, unet: UNet): Tensor[] {
  const list: unknown[] = Array.isArray(value) ? value : [value];
  if (list.length === 0) throw expected('at least one Tensor', name, value);
  const width = embeddingWidth(unet);
  return list.map((item) => {
    const tensor = checkTensor(item, name, 2);
    if (tensor.shape[1] === width && tensor.size > 0) return tensor;
    throw expectedShape(['B', width], name, tensor.shape);
  });
}

export function rowsOf(tensors: readonly Tensor[]): number {
  return tensors.reduce((sum, { shape }) => sum + (shape[0] as number), 0);
}

/** What differs between the pipelines. */
export interface DecoderDrawing extends EmbeddingLists {
  run: SchedulerRun;
  timesteps: readonly number[];
  /** The noisy latents [B,C,h,w] of the first timestep. */
  firstLatents(): Promise<Tensor>;
}

/** Embeddings → latents → denoising → output. */
export async function drawFromEmbeddings(
  { unet, movq, scheduler }: Readonly<KandinskyDecoderComponents>,
  request: GenerationRequest,
  drawing: DecoderDrawing,
): Promise<Pictures> {
  const guided = request.guidanceScale > 1;
  const copies = request.batch / rowsOf(drawing.imageEmbeds);
  const rows = (tensors: readonly Tensor[]) => ({
    imageEmbeds: stacked(tensors, unet.network, copies),
  });
  using conditions = Conditions.fromHalves(
    rows(drawing.imageEmbeds),
    guided ? rows(drawing.negativeImageEmbeds) : undefined,
  );
  using latents = await drawing.firstLatents();
  const needsVariance = learnsVariance(scheduler);
  const pictures = await draw({
    request,
    run: drawing.run,
    timesteps: drawing.timesteps,
    latents,
    guided,
    predict: async (sample, timestep, isPair) => {
      const prediction = await unet.predict(sample, timestep, undefined, conditions.of(isPair));
      if (needsVariance) return prediction;
      using whole = prediction;
      return narrow(whole, 1, 0, unet.inChannels);
    },
    decoder: movq,
  });
  return pictures;
}

/** One batch, each row's copies side by side. */
function stacked(
  tensors: readonly Tensor[],
  { dtype, device }: Pick<Tensor, 'dtype' | 'device'>,
  copies: number,
): Tensor {
  const placed = tensors.map((tensor) => tensor.to({ dtype, device }));
  try {
    using all = concat(placed);
    return repeatInterleave(all, copies);
  } finally {
    for (const tensor of placed) tensor.dispose();
  }
}

/** Whether the scheduler reads the variance that the UNet predicts beside the noise. */
function learnsVariance({ config }: Scheduler): boolean {
  return config.varianceType === 'learned' || config.varianceType === 'learned_range';
}
