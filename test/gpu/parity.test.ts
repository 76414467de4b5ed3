// Float16 on the GPU against float32 on the CPU.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';

import {
  AutoPipelineForText2Image,
  type DType,
  demoModel,
  memoryStats,
  StableDiffusionImg2ImgPipeline,
  type Tensor,
} from '../../lib/index.js';
import {
  fullSizeModel,
  gpu,
  pixels,
  psnr,
  type Task,
  withoutFullSize,
  withoutGpu,
} from './support.js';

const house = join(demoModel, 'inputs', 'house-noto-64.png');
const task: Task = { prompt: 'castle, noto style', image: house, strength: 0.8, guidanceScale: 3 };

async function drawn(
  model: string,
  device: string,
  dtype: DType,
  what: Task,
): Promise<Float32Array> {
  using pipe = await StableDiffusionImg2ImgPipeline.fromPretrained(model, {
    device,
    dtype: dtype as 'float32',
    safetyChecker: null,
  });
  return await pixels(pipe, what);
}

// 35 dB is where differences stop being seen; float16 keeps ten bits more than a pixel has.
for (const dtype of ['float16', 'float32'] as const) {
  test(`the embedded model draws in ${dtype} what the CPU draws`, {
    skip: withoutGpu,
  }, async () => {
    const ours = await drawn(demoModel, gpu, dtype, task);
    const theirs = await drawn(demoModel, 'cpu', 'float32', task);
    const ratio = psnr(ours, theirs);
    assert.ok(ratio >= 35, `${ratio.toFixed(1)} dB`);
  });
}

test('a full-size model draws in float16 what the CPU draws in float32', {
  skip: withoutFullSize,
}, async () => {
  const full = { ...task, numInferenceSteps: 6, strength: 0.7, guidanceScale: 7.5 };
  const ours = await drawn(fullSizeModel(), gpu, 'float16', full);
  const theirs = await drawn(fullSizeModel(), 'cpu', 'float32', full);
  const ratio = psnr(ours, theirs);
  assert.ok(ratio >= 35, `${ratio.toFixed(1)} dB`);
});

test('a seed gives one picture, another seed another', { skip: withoutGpu }, async () => {
  using pipe = await AutoPipelineForText2Image.fromPretrained(demoModel, { device: gpu });
  assert.equal(pipe.dtype, 'float16');
  const draw = async (seed: number): Promise<Float32Array> => {
    const { images } = await pipe.generate({ prompt: 'a cat', seed, outputType: 'tensor' });
    using picture = images as Tensor;
    return await picture.toFloat32Array();
  };
  const [first, again, other] = [await draw(1), await draw(1), await draw(2)];
  assert.deepEqual(first, again);
  assert.ok(psnr(first, other) < 25);
});

test('nothing is left behind', { skip: withoutGpu }, () => {
  const { tensors, networks } = memoryStats();
  assert.deepEqual({ tensors, networks }, { tensors: 0, networks: 0 });
});
