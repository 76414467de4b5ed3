// CUDA graphs: the same pictures, one graph for each size, and not more than the cache holds.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { demoModel, loadImage, StableDiffusionImg2ImgPipeline } from '../../lib/index.js';
import { native } from '../../lib/native.js';
import { gpu, pixels, psnr, type Task, withoutGpu } from './support.js';

const reason =
  withoutGpu ||
  (native().cudaCapability(gpu) === 0 ? 'there is no CUDA companion for this GPU' : false);

const house = join(demoModel, 'inputs', 'house-noto-64.png');
const task: Task = { prompt: 'castle, noto style', image: house, numInferenceSteps: 10 };
const warnings: Error[] = [];
const note = (warning: Error): void => void warnings.push(warning);

let eager: StableDiffusionImg2ImgPipeline;
let compiled: StableDiffusionImg2ImgPipeline;

before(async () => {
  if (reason !== false) return;
  process.on('warning', note);
  eager = await StableDiffusionImg2ImgPipeline.fromPretrained(demoModel, { device: gpu });
  compiled = await StableDiffusionImg2ImgPipeline.fromPretrained(demoModel, { device: gpu });
  await compiled.compile({ mode: 'reduce-overhead' });
});

after(() => {
  if (reason !== false) return;
  process.off('warning', note);
  eager.dispose();
  compiled.dispose();
});

/** Square pictures of a side, from the picture of the demo. */
async function atSize(pipe: StableDiffusionImg2ImgPipeline, side: number): Promise<Float32Array> {
  const image = (await loadImage(house)).resize(side, side);
  return await pixels(pipe, { ...task, image });
}

test('graphs draw the same picture', { skip: reason }, async () => {
  const plain = await pixels(eager, task);
  for (let round = 0; round < 3; round += 1) {
    // Convolutions may have found other algorithms: equal up to float16's rounding.
    const ratio = psnr(await pixels(compiled, task), plain);
    assert.ok(ratio >= 40, `${ratio.toFixed(1)} dB in round ${round}`);
  }
  const { unet } = compiled.graphs;
  assert.equal(unet?.fault, '');
  assert.ok((unet?.replayed ?? 0) > (unet?.eager ?? 0), JSON.stringify(unet));
  assert.deepEqual(warnings, []);
});

test('each size has a graph, and the cache is bounded', { skip: reason }, async () => {
  const sides = [48, 56, 64, 72, 80, 88, 96, 104, 112, 120];
  for (const side of sides) {
    const ratio = psnr(await atSize(compiled, side), await atSize(eager, side));
    assert.ok(ratio >= 40, `${ratio.toFixed(1)} dB at ${side}`);
  }
  const { unet } = compiled.graphs;
  assert.ok((unet?.recorded ?? 0) >= sides.length, JSON.stringify(unet));
  assert.equal(unet?.held, 8);
  // The first size lost its graph long ago and gets a new one.
  const ratio = psnr(await atSize(compiled, 48), await atSize(eager, 48));
  assert.ok(ratio >= 40, `${ratio.toFixed(1)} dB`);
  assert.equal(compiled.graphs.unet?.held, 8);
});
