// Pipelines of torchbrush as scenarios open them, and what they draw.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import type { Image } from '../../../lib/image.js';
import { demoModel } from '../../../lib/package-root.js';
import { AutoPipelineForImage2Image } from '../../../lib/pipelines/auto.js';
import type { ImageToImagePipeline } from '../../../lib/pipelines/auto-classes.js';
import { StableDiffusionImg2ImgPipeline } from '../../../lib/pipelines/stable-diffusion-img2img.js';
import type { OwnMode } from '../choice.js';
import type { BenchContext, BenchSettings } from '../context.js';
import type { BenchDType } from '../measure.js';

export const picture = join(demoModel, 'inputs', 'house-noto-64.png');

/** A picture to draw, in the words of both libraries. */
export interface Task {
  prompt: string;
  seed: number;
  steps: number;
  strength: number;
  guidance: number;
}

/** The embedded model. */
export function openDemo(
  context: BenchContext,
  dtype: BenchDType,
): Promise<StableDiffusionImg2ImgPipeline> {
  const { device } = context.settings;
  return StableDiffusionImg2ImgPipeline.fromPretrained(demoModel, { dtype, device });
}

/** Any checkpoint for image-to-image, without what looks at its pictures. */
export async function openImageToImage(
  folder: string,
  {
    device,
    variant,
    offload,
  }: Pick<BenchSettings, 'device' | 'variant'> & { offload?: 'model' | 'sequential' | undefined },
  { dtype, isCompiled }: Omit<OwnMode, 'name'>,
): Promise<ImageToImagePipeline> {
  const index = JSON.parse(await readFile(join(folder, 'model_index.json'), 'utf8'));
  const pipe = await AutoPipelineForImage2Image.fromPretrained(folder, {
    dtype,
    device,
    ...(variant !== undefined && folder !== demoModel && { variant }),
    ...(offload !== undefined && { offload }),
    // Stable Diffusion XL has none, and no such option.
    ...('safety_checker' in index && { safetyChecker: null }),
  });
  if (isCompiled) await pipe.compile({ mode: 'reduce-overhead' });
  return pipe;
}

export async function draw(
  pipe: ImageToImagePipeline,
  image: Image,
  { prompt, seed, steps, strength, guidance }: Task,
): Promise<void> {
  const settings = { numInferenceSteps: steps, guidanceScale: guidance };
  await pipe.generate({ prompt, seed, image, strength, ...settings });
}
