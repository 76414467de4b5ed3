// Weights on the host between runs: the same picture, with less on the GPU.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';

import { demoModel, memoryStats, StableDiffusionImg2ImgPipeline } from '../../lib/index.js';
import { gpu, pixels, psnr, type Task, withoutGpu } from './support.js';

interface Offloading {
  enableModelCpuOffload(): void;
  enableSequentialCpuOffload(): void;
}

const isThere = 'enableModelCpuOffload' in StableDiffusionImg2ImgPipeline.prototype;
const skip = withoutGpu || (isThere ? false : 'pipelines have no offload');

const house = join(demoModel, 'inputs', 'house-noto-64.png');
const task: Task = { prompt: 'castle, noto style', image: house, numInferenceSteps: 8 };

function bytesOnGpu(): number {
  const { weightBytes } = memoryStats() as { weightBytes?: Record<string, number> };
  return weightBytes?.[gpu] ?? 0;
}

for (const method of ['enableModelCpuOffload', 'enableSequentialCpuOffload'] as const) {
  for (const isCompiled of [false, true]) {
    const how = isCompiled ? ', compiled' : '';
    test(`${method} draws the same picture${how}`, { skip }, async () => {
      using pipe = await StableDiffusionImg2ImgPipeline.fromPretrained(demoModel, { device: gpu });
      if (isCompiled) await pipe.compile();
      const plain = await pixels(pipe, task);
      const before = bytesOnGpu();
      (pipe as unknown as Offloading)[method]();
      for (let round = 0; round < 2; round += 1) {
        const ratio = psnr(await pixels(pipe, task), plain);
        assert.ok(ratio >= 40, `${ratio.toFixed(1)} dB in round ${round}`);
      }
      assert.ok(bytesOnGpu() < before, `${bytesOnGpu()} of ${before} bytes are on the GPU`);
    });
  }
}
