// Drawing small pictures quickly and comparing them.
import assert from 'node:assert/strict';
import { mock } from 'node:test';

import {
  AutoPipelineForImage2Image,
  type FromPretrainedOptions,
  type ImageToImageOptions,
  type StableDiffusionComponents,
  type StableDiffusionImg2ImgPipeline,
  UNet,
} from '../lib/index.js';
import { testImage } from './helpers.js';

/** Options of image-to-image that draw in no time. */
export const sound = {
  prompt: 'a fox, 3d style',
  image: testImage(32, 32),
  numInferenceSteps: 3,
  strength: 1,
  seed: 7,
};

/** The numbers of the picture that the sound options, with changes, draw. */
export async function pixelsOf(
  pipe: StableDiffusionImg2ImgPipeline,
  options: Partial<ImageToImageOptions> = {},
): Promise<Float32Array> {
  const { images } = await pipe.generate({ ...sound, ...options, outputType: 'tensor' });
  using picture = images;
  return await picture.toFloat32Array();
}

/** The numbers of a picture that a checkpoint draws, loaded for it alone. */
export async function pixelsFrom(
  model: string,
  options: FromPretrainedOptions<StableDiffusionComponents> = {},
): Promise<Float32Array> {
  using pipe = await AutoPipelineForImage2Image.fromPretrained(model, options);
  const drawer = pipe as StableDiffusionImg2ImgPipeline;
  return await pixelsOf(drawer, { strength: 0.8, numInferenceSteps: 2 });
}

/** The largest difference. */
export function distance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  assert.equal(a.length, b.length);
  return Array.from(a).reduce(
    (most, value, i) => Math.max(most, Math.abs(value - (b[i] as number))),
    0,
  );
}

/** How many rows the UNet is given, pass by pass. */
export async function unetRows(run: () => Promise<unknown>): Promise<number[]> {
  const rows: number[] = [];
  const predict = UNet.prototype.predict;
  const spy = mock.method(
    UNet.prototype,
    'predict',
    function (this: UNet, ...inputs: Parameters<typeof predict>) {
      rows.push(inputs[0].shape[0] as number);
      return predict.apply(this, inputs);
    },
  );
  await run();
  spy.mock.restore();
  return rows;
}
