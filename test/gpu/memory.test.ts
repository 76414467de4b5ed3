// Out of memory: a typed error, and life goes on.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';

import { demoModel, OutOfMemoryError, StableDiffusionImg2ImgPipeline } from '../../lib/index.js';
import { full } from '../../lib/ops.js';
import { gpu, pixels, psnr, type Task, withoutGpu } from './support.js';

const house = join(demoModel, 'inputs', 'house-noto-64.png');
const task: Task = { prompt: 'castle, noto style', image: house, numInferenceSteps: 5 };

test('a tensor beyond the memory is an OutOfMemoryError', { skip: withoutGpu }, () => {
  // Four terabytes.
  assert.throws(() => full([1 << 20, 1 << 20], 0, { device: gpu }), OutOfMemoryError);
  using small = full([4], 2, { device: gpu });
  assert.deepEqual(small.shape, [4]);
});

test('a run beyond the memory fails alone', { skip: withoutGpu }, async () => {
  using pipe = await StableDiffusionImg2ImgPipeline.fromPretrained(demoModel, { device: gpu });
  for (const isCompiled of [false, true]) {
    if (isCompiled) await pipe.compile();
    const before = await pixels(pipe, task);
    const { network } = pipe.components.textEncoder;
    const name = network.inputsOf('forward')[0] as string;
    {
      // 10 GB of tokens, whose embeddings would be 300 GB.
      using tokens = full([50_000_000, 24], 0, { dtype: 'int64', device: gpu });
      const run = network.run(
        'forward',
        { [name]: tokens },
        network.outputsOf('forward').slice(0, 1),
      );
      await assert.rejects(run, OutOfMemoryError);
    }
    const ratio = psnr(await pixels(pipe, task), before);
    assert.ok(ratio >= 40, `${ratio.toFixed(1)} dB`);
  }
});
