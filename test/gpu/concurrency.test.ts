// Generations at the same time: on one pipeline, on two, and on two GPUs where there are as many.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';

import { demoModel, devices, StableDiffusionImg2ImgPipeline } from '../../lib/index.js';
import { gpu, pixels, psnr, type Task, withoutGpu } from './support.js';

const house = join(demoModel, 'inputs', 'house-noto-64.png');
const tasks: Task[] = [7, 8, 9].map((seed) => ({
  prompt: 'castle, noto style',
  image: house,
  numInferenceSteps: 8 + seed,
  guidanceScale: seed - 5,
  seed,
}));
const second = devicesOrNone().find((name) => name === 'cuda:1');

function devicesOrNone(): string[] {
  return withoutGpu ? [] : devices().map(({ name }) => name);
}

async function sameAsAlone(pipes: StableDiffusionImg2ImgPipeline[]): Promise<void> {
  const jobs = pipes.flatMap((pipe) => tasks.map((task) => ({ pipe, task })));
  const alone: Float32Array[] = [];
  for (const { pipe, task } of jobs) alone.push(await pixels(pipe, task));
  const together = await Promise.all(jobs.map(({ pipe, task }) => pixels(pipe, task)));
  for (const [i, picture] of together.entries()) {
    // Requests that wait go through as one batch, which may take other kernels.
    const ratio = psnr(picture, alone[i] as Float32Array);
    assert.ok(ratio >= 40, `${ratio.toFixed(1)} dB for job ${i}`);
  }
}

for (const isCompiled of [false, true]) {
  const how = isCompiled ? ', compiled' : '';
  test(`requests on one pipeline draw what they draw alone${how}`, {
    skip: withoutGpu,
  }, async () => {
    using pipe = await StableDiffusionImg2ImgPipeline.fromPretrained(demoModel, { device: gpu });
    if (isCompiled) await pipe.compile();
    await sameAsAlone([pipe]);
  });

  test(`two pipelines draw at the same time${how}`, { skip: withoutGpu }, async () => {
    const options = { device: gpu } as const;
    using a = await StableDiffusionImg2ImgPipeline.fromPretrained(demoModel, options);
    using b = await StableDiffusionImg2ImgPipeline.fromPretrained(demoModel, {
      ...options,
      dtype: 'bfloat16',
    });
    if (isCompiled) await Promise.all([a.compile(), b.compile()]);
    await sameAsAlone([a, b]);
  });
}

test('two GPUs draw at the same time', {
  skip: withoutGpu || (second === undefined ? 'there is only one GPU' : false),
}, async () => {
  using a = await StableDiffusionImg2ImgPipeline.fromPretrained(demoModel, { device: gpu });
  using b = await StableDiffusionImg2ImgPipeline.fromPretrained(demoModel, { device: 'cuda:1' });
  await sameAsAlone([a, b]);
});
