// Text-to-image: the size that is asked for, and the noise that drawing starts from.
import { expected, expectedShape } from '../errors.js';
import type { Generator } from '../generator.js';
import { defaultPixelLimit } from '../images/image.js';
import { noiseLike } from '../networks/autoencoder.js';
import { linearCombination } from '../ops.js';
import { checkInteger, checkTensor } from '../options.js';
import type { SchedulerRun } from '../schedulers/scheduler.js';
import type { Tensor } from '../tensor.js';

export interface Size {
  height: number;
  width: number;
}

/** Pixels; a side that is not given is the fallback's. @throws InvalidArgumentError */
export function checkSize(options: Partial<Size>, factor: number, fallback: Size): Size {
  const height = checkSide(options.height ?? fallback.height, 'height', factor);
  const width = checkSide(options.width ?? fallback.width, 'width', factor);
  if (height * width > defaultPixelLimit) {
    throw expected(`at most ${defaultPixelLimit} pixels`, 'height and width', height * width);
  }
  return { height, width };
}

function checkSide(value: unknown, name: string, factor: number): number {
  // Stable Diffusion's factor is 8, and diffusers asks for multiples of 8 whatever the autoencoder.
  const multiple = Math.max(8, factor);
  const side = checkInteger(value, name, multiple);
  if (side % multiple === 0) return side;
  const lower = side - (side % multiple);
  throw expected(`a multiple of ${multiple}`, name, side, `Use ${lower} or ${lower + multiple}.`);
}

/** Noise of the caller's own, if there is some. @throws InvalidArgumentError */
export function checkLatents(latents: unknown, shape: readonly number[]): Tensor | undefined {
  if (latents === undefined) return undefined;
  const given = checkTensor(latents, 'latents', shape.length);
  if (given.shape.join() === shape.join()) return given;
  throw expectedShape(shape, 'latents', given.shape);
}

/** Noise as strong as the run begins with: the caller's, or freshly drawn. */
export function firstNoise(
  like: Pick<Tensor, 'shape' | 'dtype' | 'device'>,
  given: Tensor | undefined,
  generator: Generator | readonly Generator[],
  run: SchedulerRun,
): Tensor {
  const { dtype, device } = like;
  using noise = given?.to({ dtype, device }) ?? noiseLike(like, generator);
  return linearCombination([run.initNoiseSigma], [noise]);
}
