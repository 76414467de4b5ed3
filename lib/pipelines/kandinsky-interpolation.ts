// Mixing pictures and texts into one embedding.
import type { Sharp } from 'sharp';

import { expected, expectedShape, InvalidArgumentError } from '../errors.js';
import { type Image, loadImage } from '../image.js';
import { preprocessForClip } from '../images/clip-preprocess.js';
import { linearCombination, repeat } from '../ops.js';
import { checkInteger, checkNumber, defaults } from '../options.js';
import type { SchedulerRun } from '../schedulers/scheduler.js';
import { Tensor } from '../tensor.js';
import { checkPicture } from './init-image.js';
import type { KandinskyPriorComponents } from './kandinsky-components.js';
import {
  checkPriorRequest,
  drawEmbeddings,
  emptyPicture,
  type KandinskyEmbeddings,
  type KandinskyPriorOptions,
  type PriorRequest,
  priorDefaults,
} from './kandinsky-embeddings.js';

/** A text, or a picture: a URL object, file bytes, Image, sharp instance or a Tensor [1,3,S,S]. */
export type KandinskyIngredient = string | URL | Uint8Array | ArrayBuffer | Image | Sharp | Tensor;

/** Options of `interpolate`. */
export interface KandinskyInterpolationOptions
  extends Omit<KandinskyPriorOptions, 'prompt' | 'negativePrompt' | 'onStep'> {
  /**
   * What to mix. Strings are texts, never paths. Tensors are pictures as the image encoder takes
   * them, already normalised. Not disposed.
   */
  imagesAndPrompts: readonly KandinskyIngredient[];
  /** One for each of `imagesAndPrompts`; they are multiplied and added up as they are. */
  weights: readonly number[];
  /** What the texts are guided away from in the prior; '' unless given. */
  negativePriorPrompt?: string;
  /** What the pictures should not show; unless given, what is negative is an empty picture. */
  negativePrompt?: string;
}

export const interpolationOptionNames = [
  'imagesAndPrompts',
  'weights',
  'numImagesPerPrompt',
  'numInferenceSteps',
  'guidanceScale',
  'seed',
  'generator',
  'latents',
  'negativePriorPrompt',
  'negativePrompt',
  'signal',
];

/** @throws InvalidArgumentError, ImageError, before any network runs */
export async function interpolate(
  components: Readonly<KandinskyPriorComponents>,
  options: KandinskyInterpolationOptions,
): Promise<KandinskyEmbeddings> {
  const weights = checkWeights(options);
  const copies = checkInteger(
    options.numImagesPerPrompt ?? defaults.numImagesPerPrompt,
    'numImagesPerPrompt',
    1,
  );
  const negativePrompt = checkText(options.negativePrompt ?? '', 'negativePrompt');
  const requestOf = requests(components, options);
  start(components, options).dispose();
  const negative = requestOf(negativePrompt);
  const ingredients: (PriorRequest | Tensor)[] = [];
  const embeddings: Tensor[] = [];
  try {
    for (const item of options.imagesAndPrompts) {
      ingredients.push(
        typeof item === 'string' ? requestOf(item) : await toPixels(item, components, options),
      );
    }
    for (const item of ingredients) {
      options.signal?.throwIfAborted();
      embeddings.push(await embed(components, item, copies, options));
    }
    const negativeImageEmbeds = await negativeOf(components, negative, copies, options);
    return { imageEmbeds: linearCombination(weights, embeddings), negativeImageEmbeds };
  } finally {
    for (const item of ingredients) if (item instanceof Tensor) item.dispose();
    for (const item of embeddings) item.dispose();
  }
}

/** Requests with everything but the text in common; they draw from one generator in turn. */
function requests(
  components: Readonly<KandinskyPriorComponents>,
  options: KandinskyInterpolationOptions,
): (prompt: string) => PriorRequest {
  const { negativePriorPrompt: away } = options;
  const { numImagesPerPrompt, numInferenceSteps, guidanceScale, latents, signal } = options;
  const common = {
    ...{ numImagesPerPrompt, numInferenceSteps, guidanceScale, latents, signal },
    ...(away !== undefined && { negativePrompt: checkText(away, 'negativePriorPrompt') }),
  };
  const { seed, generator } = options;
  const first = checkPriorRequest(components, { ...common, prompt: '', seed, generator });
  return (prompt) => ({
    ...checkPriorRequest(components, { ...common, prompt }),
    generator: first.generator,
  });
}

async function embed(
  components: Readonly<KandinskyPriorComponents>,
  item: PriorRequest | Tensor,
  copies: number,
  options: KandinskyInterpolationOptions,
): Promise<Tensor> {
  if (item instanceof Tensor) {
    using embedding = await components.imageEncoder.encode(item);
    return repeat(embedding, [copies, 1]);
  }
  const { imageEmbeds, negativeImageEmbeds } = await drawOnce(components, item, options);
  negativeImageEmbeds.dispose();
  return imageEmbeds;
}

/**
 * As in diffusers: of an empty negative prompt what counts is the negative of the prior's answer, of
 * any other the answer itself.
 */
async function negativeOf(
  components: Readonly<KandinskyPriorComponents>,
  request: PriorRequest,
  copies: number,
  options: KandinskyInterpolationOptions,
): Promise<Tensor> {
  const isEmpty = request.texts[0] === '';
  // Nothing of the answer would be used. A caller's generator must still be drawn from.
  if (isEmpty && !request.hasNegatives && options.generator === undefined) {
    return await emptyPicture(components, copies);
  }
  const { imageEmbeds, negativeImageEmbeds } = await drawOnce(components, request, options);
  const [kept, other] = isEmpty
    ? [negativeImageEmbeds, imageEmbeds]
    : [imageEmbeds, negativeImageEmbeds];
  other.dispose();
  return kept;
}

async function drawOnce(
  components: Readonly<KandinskyPriorComponents>,
  request: PriorRequest,
  options: KandinskyInterpolationOptions,
): Promise<KandinskyEmbeddings> {
  using run = start(components, options);
  return await drawEmbeddings(components, request, run);
}

function start(
  { scheduler }: Readonly<KandinskyPriorComponents>,
  { numInferenceSteps = priorDefaults.numInferenceSteps }: KandinskyInterpolationOptions,
): SchedulerRun {
  return scheduler.start({ numInferenceSteps });
}

/** [1,3,S,S], normalised; a fresh handle. */
async function toPixels(
  item: Exclude<KandinskyIngredient, string>,
  { imageEncoder, imageProcessor }: Readonly<KandinskyPriorComponents>,
  { signal }: KandinskyInterpolationOptions,
): Promise<Tensor> {
  const { dtype, device } = imageEncoder.network;
  const side = imageEncoder.imageSize;
  const shape = [1, 3, side, side];
  if (item instanceof Tensor) {
    if (item.shape.join() === shape.join()) return item.to({ dtype, device });
    throw expectedShape(shape, 'imagesAndPrompts', item.shape);
  }
  checkPicture(item, 'imagesAndPrompts');
  const prepared = preprocessForClip([await loadImage(item, { signal })], imageProcessor);
  if (prepared.shape.join() !== shape.join()) {
    throw new InvalidArgumentError(
      `Expected an imageProcessor that makes ${side}×${side} pixels, as the image encoder takes ` +
        `them, but it makes ${prepared.shape[3]}×${prepared.shape[2]}.`,
    );
  }
  using onHost = Tensor.fromArray(prepared.data, prepared.shape);
  return onHost.to({ dtype, device });
}

function checkWeights({ imagesAndPrompts, weights }: KandinskyInterpolationOptions): number[] {
  if (!Array.isArray(imagesAndPrompts) || imagesAndPrompts.length === 0) {
    throw expected('an array of texts and pictures', 'imagesAndPrompts', imagesAndPrompts);
  }
  const count = imagesAndPrompts.length;
  if (!Array.isArray(weights) || weights.length !== count) {
    throw expected(`${count} numbers, one for each of imagesAndPrompts,`, 'weights', weights);
  }
  return weights.map((weight, i) => checkNumber(weight, `weights[${i}]`));
}

function checkText(value: unknown, name: string): string {
  if (typeof value === 'string') return value;
  throw expected('a text', name, value);
}
