// What the tests on a GPU share. Without one they are skipped, with the reason.
import { existsSync } from 'node:fs';

import {
  devices,
  type Image,
  LibtorchNotFoundError,
  type StableDiffusionImg2ImgPipeline,
  type Tensor,
} from '../../lib/index.js';

/** The first GPU. */
export const gpu = 'cuda:0';

/** The reason to skip all, or false. */
export const withoutGpu: string | false = reasonToSkip();

/** The reason to skip what needs a full-size Stable Diffusion 1.5, or false. */
export const withoutFullSize: string | false =
  withoutGpu ||
  (existsSync(fullSizeModel())
    ? false
    : 'TORCHBRUSH_FULL_SIZE names no folder with a full-size Stable Diffusion 1.5');

export function fullSizeModel(): string {
  return process.env.TORCHBRUSH_FULL_SIZE ?? '';
}

function reasonToSkip(): string | false {
  try {
    return devices().some(({ type }) => type === 'cuda') ? false : 'no CUDA device answers';
  } catch (error) {
    if (error instanceof LibtorchNotFoundError) return 'there is no libtorch';
    throw error;
  }
}

/** Peak signal-to-noise ratio of pictures in 0..1, in decibels. */
export function psnr(a: Float32Array, b: Float32Array): number {
  if (a.length !== b.length || a.length === 0)
    throw new Error(`${a.length} values and ${b.length}.`);
  let sum = 0;
  for (const [i, value] of a.entries()) sum += (value - (b[i] as number)) ** 2;
  return -10 * Math.log10(sum / a.length);
}

export interface Task {
  prompt: string | string[];
  image: string | Image;
  strength?: number;
  guidanceScale?: number;
  numInferenceSteps?: number;
  seed?: number;
  numImagesPerPrompt?: number;
}

/** The picture of a task, in 0..1. */
export async function pixels(
  pipe: StableDiffusionImg2ImgPipeline,
  task: Task,
): Promise<Float32Array> {
  const { images } = await pipe.generate({ seed: 7, ...task, outputType: 'tensor' });
  using picture = images as Tensor;
  return await picture.toFloat32Array();
}
