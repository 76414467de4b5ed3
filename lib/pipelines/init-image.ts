// The picture that image-to-image starts from: to pixels or latents, then to noisy latents.
import type { Sharp } from 'sharp';

import { expected, expectedShape, InvalidArgumentError } from '../errors.js';
import { Image, loadImage } from '../image.js';
import { isSharp } from '../images/decode.js';
import { preprocessImages } from '../images/preprocess.js';
import type { ResizeFilter } from '../images/resample.js';
import { type Autoencoder, noiseLike } from '../networks/autoencoder.js';
import type { UNet } from '../networks/unet.js';
import {
  addScalar,
  anyBelow,
  concat,
  divide,
  full,
  linearCombination,
  repeat,
  reshape,
  resizeNearest,
} from '../ops.js';
import type { SchedulerRun } from '../schedulers/scheduler.js';
import { Tensor } from '../tensor.js';
import type { GenerationRequest } from './generation.js';

/**
 * A picture to start from: a path, an address (also in a string), the bytes of a file, an `Image`,
 * a sharp instance, or a `Tensor` of pixels in 0..1 or of latents.
 */
export type InitImage = string | URL | Uint8Array | ArrayBuffer | Image | Sharp | Tensor;

/** Pixels [n,3,H,W] in −1..1, or latents [n,C,h,w]. */
export class PreparedImage {
  constructor(
    readonly kind: 'pixels' | 'latents',
    readonly tensor: Tensor,
  ) {}

  [Symbol.dispose](): void {
    this.tensor.dispose();
  }
}

/** How pictures become pixels; as for image-to-image unless said otherwise. */
export interface ReadImageOptions {
  /** What both sides are rounded down to a multiple of; the autoencoder's factor. */
  multipleOf?: number;
  filter?: ResizeFilter;
  /** Size in pixels, rounded down; the first picture's unless given. Latents stay as they are. */
  height?: number | undefined;
  width?: number | undefined;
  /** −1..1 if true (default), 0..1 if false, as ControlNets take pictures. */
  normalize?: boolean;
  /** The option's name, for messages; `'image'` unless given. */
  name?: string;
}

/**
 * Pictures or tensors for a batch of pictures to draw, which they must divide.
 *
 * @throws InvalidArgumentError, ImageError
 */
export async function readInitImage(
  image: InitImage | readonly InitImage[],
  vae: Autoencoder,
  batch: number,
  signal: AbortSignal | undefined,
  options: ReadImageOptions = {},
): Promise<PreparedImage> {
  const prepared = await readImages(image, vae, signal, options);
  const count = prepared.tensor.shape[0] as number;
  if (batch % count === 0) return prepared;
  prepared.tensor.dispose();
  throw expected(
    `a number of images that divides the ${batch} pictures to draw`,
    'image',
    count,
    'Pass one prompt per image.',
  );
}

/** @throws InvalidArgumentError, ImageError */
export async function readImages(
  image: InitImage | readonly InitImage[],
  vae: Autoencoder,
  signal: AbortSignal | undefined,
  options: ReadImageOptions = {},
): Promise<PreparedImage> {
  const items = (Array.isArray(image) ? image : [image]) as InitImage[];
  const sizing: Sizing = {
    multipleOf: vae.scaleFactor,
    filter: 'lanczos',
    name: 'image',
    ...options,
  };
  const { name } = sizing;
  if (items.length === 0) throw expected('at least one image', name, image);
  const tensors = items.filter((item) => item instanceof Tensor);
  if (tensors.length > 0 && tensors.length < items.length) {
    throw new InvalidArgumentError(
      `Expected ${name} to be all tensors or no tensors, not a mixture.`,
    );
  }
  if (tensors.length > 0) return fromTensors(tensors, vae.latentChannels, sizing);
  return await fromPictures(items, sizing, signal);
}

type Sizing = ReadImageOptions & Required<Pick<ReadImageOptions, 'multipleOf' | 'filter' | 'name'>>;

async function fromPictures(
  items: InitImage[],
  sizing: Sizing,
  signal: AbortSignal | undefined,
): Promise<PreparedImage> {
  for (const item of items) checkPicture(item, sizing.name);
  const images: Image[] = [];
  for (const item of items) {
    images.push(await loadImage(item as Exclude<InitImage, Tensor>, { signal }));
  }
  const { data, shape } = preprocessImages(images, sizing);
  return new PreparedImage('pixels', Tensor.fromArray(data, shape));
}

export function asBatch(image: Tensor, name = 'image'): Tensor {
  const { shape } = image;
  if (shape.length === 4) return image.alias();
  if (shape.length === 3) return reshape(image, [1, ...shape]);
  throw expectedShape('a Tensor with 3 or 4 dimensions', name, shape);
}

/** @throws InvalidArgumentError for what is no picture */
export function checkPicture(item: unknown, name = 'image'): void {
  const isText = typeof item === 'string' && item !== '';
  const isBytes = item instanceof Uint8Array || item instanceof ArrayBuffer;
  if (isText || isBytes || item instanceof URL || item instanceof Image || isSharp(item)) return;
  const what =
    'a file path, a URL, the bytes of an image file, an Image, a sharp instance or a Tensor';
  throw expected(what, name, item);
}

function fromTensors(items: Tensor[], latentChannels: number, sizing: Sizing): PreparedImage {
  const { name } = sizing;
  const batches: Tensor[] = [];
  try {
    for (const item of items) batches.push(asBatch(item, name));
    const sizes = new Set(batches.map((item) => item.shape.slice(1).join(', ')));
    if (sizes.size > 1) throw expected('tensors of one size', name, [...sizes].join(' and '));
    const [first] = batches as [Tensor];
    // A single one is not copied: latents go from pipeline to pipeline as they are.
    using all = batches.length === 1 ? first.alias() : concat(batches);
    const [, channels] = all.shape;
    if (all.size === 0) throw expectedShape('a Tensor that is not empty', name, all.shape);
    if (channels === latentChannels) return new PreparedImage('latents', all.alias());
    if (channels === 3) return new PreparedImage('pixels', toPixels(all, sizing));
    throw expectedShape(`3 channels (pixels) or ${latentChannels} (latents)`, name, all.shape);
  } finally {
    for (const item of batches) item.dispose();
  }
}

/**
 * 0..1, or bytes, → −1..1 or 0..1, at a size the autoencoder takes. Values below 0 mean that it is
 * −1..1 already.
 */
export function toPixels(pixels: Tensor, sizing: Sizing): Tensor {
  const { multipleOf: factor, normalize = true, name } = sizing;
  const [, , height = 0, width = 0] = pixels.shape;
  const [givenHeight, givenWidth] = [sizing.height ?? height, sizing.width ?? width];
  const [h, w] = [givenHeight - (givenHeight % factor), givenWidth - (givenWidth % factor)];
  if (h === 0 || w === 0) {
    throw expected(`at least ${factor} pixels a side`, name, `${givenWidth}×${givenHeight}`);
  }
  using asFloat = toUnitRange(pixels);
  using sized = h === height && w === width ? asFloat.alias() : resizeNearest(asFloat, h, w);
  if (!normalize || anyBelow(sized, 0)) return sized.alias();
  using doubled = linearCombination([2], [sized]);
  return addScalar(doubled, -1);
}

function toUnitRange(pixels: Tensor): Tensor {
  using asFloat = pixels.to({ dtype: 'float32' });
  if (pixels.dtype !== 'uint8') return asFloat.alias();
  // A division as of pictures: a product with 1/255 would differ in the last bit.
  using largest = full([1], 255, { device: pixels.device });
  return divide(asFloat, largest);
}

/** The shape of the latents that a batch of pictures has. */
export function latentShape(
  { kind, tensor }: PreparedImage,
  { vae }: { vae: Autoencoder },
  batch: number,
): number[] {
  const [, , height = 0, width = 0] = tensor.shape;
  const factor = kind === 'latents' ? 1 : vae.scaleFactor;
  return [batch, vae.latentChannels, height / factor, width / factor];
}

export interface InitImageOptions {
  /** Whether noise is added for the run's first timestep; true unless given. */
  addNoise?: boolean;
}

/**
 * Latents [B,C,h,w] of the init image, with the noise of the run's first timestep. Draws, in this
 * order: the posterior sample of the pixels, then the noise.
 */
export async function encodeInitImage(
  init: PreparedImage,
  { vae, unet }: { vae: Autoencoder; unet: UNet },
  { batch, generator }: Pick<GenerationRequest, 'batch' | 'generator'>,
  run: SchedulerRun,
  { addNoise = true }: InitImageOptions = {},
): Promise<Tensor> {
  const { dtype, device } = unet.network;
  using placed = init.tensor.to(init.kind === 'latents' ? { dtype, device } : { device });
  // One generator per picture: the pictures are tiled first, so that each has its own posterior.
  using source = Array.isArray(generator) ? tile(placed, batch) : placed.alias();
  using encoded = init.kind === 'latents' ? source.alias() : await vae.encode(source, generator);
  // The autoencoder may work in another dtype than the UNet.
  using converted = encoded.to({ dtype });
  using latents = tile(converted, batch);
  if (!addNoise) return latents.alias();
  using noise = noiseLike(latents, generator);
  return run.addNoise(latents, noise, run.timesteps[0] as number);
}

/** a, b → a, b, a, b until there are `batch`. */
export function tile(tensor: Tensor, batch: number): Tensor {
  const [count = 1, ...rest] = tensor.shape;
  if (count === batch) return tensor.alias();
  return repeat(tensor, [batch / count, ...rest.map(() => 1)]);
}
