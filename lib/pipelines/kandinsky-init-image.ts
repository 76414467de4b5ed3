// The picture that Kandinsky's image-to-image starts from: all to one size, then to noisy latents.
import { expected, expectedShape } from '../errors.js';
import { loadImage } from '../image.js';
import { preprocessImages } from '../images/preprocess.js';
import { noiseLike } from '../networks/autoencoder.js';
import type { MoVQ } from '../networks/movq.js';
import { concat } from '../ops.js';
import type { SchedulerRun } from '../schedulers/scheduler.js';
import { Tensor } from '../tensor.js';
import type { Size } from './first-noise.js';
import type { GenerationRequest } from './generation.js';
import { asBatch, checkPicture, type InitImage, tile, toPixels } from './init-image.js';

/** Pixels [n,3,height,width] in −1..1. @throws InvalidArgumentError, ImageError */
export async function readKandinskyImage(
  image: InitImage | readonly InitImage[],
  movq: MoVQ,
  size: Size,
  signal: AbortSignal | undefined,
): Promise<Tensor> {
  const items = (Array.isArray(image) ? image : [image]) as InitImage[];
  if (items.length === 0) throw expected('at least one image', 'image', image);
  for (const item of items) if (!(item instanceof Tensor)) checkPicture(item);
  const pixels: Tensor[] = [];
  try {
    for (const item of items) pixels.push(await readOne(item, movq, size, signal));
    return concat(pixels);
  } finally {
    for (const tensor of pixels) tensor.dispose();
  }
}

async function readOne(
  item: InitImage,
  movq: MoVQ,
  size: Size,
  signal: AbortSignal | undefined,
): Promise<Tensor> {
  const multipleOf = movq.scaleFactor;
  if (!(item instanceof Tensor)) {
    const loaded = await loadImage(item, { signal });
    const options = { ...size, multipleOf, filter: 'bicubic', reducingGap: 1 } as const;
    const { data, shape } = preprocessImages([loaded], options);
    return Tensor.fromArray(data, shape);
  }
  using batch = asBatch(item);
  const { shape } = batch;
  if (shape[1] === 3 && batch.size > 0) {
    using onHost = batch.to({ device: 'cpu' });
    return toPixels(onHost, { ...size, multipleOf, filter: 'bicubic', name: 'image' });
  }
  const hint = 'Kandinsky takes no latents: decode them first.';
  throw expectedShape('pixels [3, H, W] or [B, 3, H, W]', 'image', shape, hint);
}

export interface KandinskyInit {
  /** [n,3,H,W] */
  pixels: Tensor;
  /** A row of latents for each noise that is drawn, from those of the n pictures. */
  rows(latents: Tensor): Tensor;
}

/**
 * Latents [B,C,h,w] with the noise of a timestep. Fewer rows than pictures to draw are tiled with
 * their noise, as in diffusers.
 */
export async function encodeKandinskyImage(
  { pixels, rows }: KandinskyInit,
  movq: MoVQ,
  { batch, generator }: Pick<GenerationRequest, 'batch' | 'generator'>,
  run: SchedulerRun,
  timestep: number,
): Promise<Tensor> {
  const { dtype, device } = movq.network;
  using placed = pixels.to({ dtype, device });
  using encoded = await movq.encode(placed);
  using latents = rows(encoded);
  const count = latents.shape[0] as number;
  using noise = noiseLike(
    latents,
    Array.isArray(generator) ? generator.slice(0, count) : generator,
  );
  using noisy = run.addNoise(latents, noise, timestep);
  return tile(noisy, batch);
}
