// Weights that leave the device. The CPU stands in for an accelerator here: weights have a copy of
// their own on it, moved by another thread, and may use so many bytes of it and no more.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';

import {
  configure,
  memoryStats,
  OutOfMemoryError,
  StableDiffusionImg2ImgPipeline,
  StableDiffusionPipeline,
} from '../lib/index.js';
import { native } from '../lib/native.js';
import { simulateAccelerator } from '../lib/networks/offload.js';
import { full } from '../lib/ops.js';
import { array, someLayers, write } from './adapter-files.js';
import { distance, pixelsOf } from './drawing.js';
import { demoModel } from './helpers.js';

configure({ threads: 1 });
simulateAccelerator(true);

let pipe: StableDiffusionImg2ImgPipeline;
let expected: Float32Array;
let whole: number;
const folder = mkdtempSync(join(tmpdir(), 'torchbrush-test-'));

const pixels = (options: Parameters<typeof pixelsOf>[1] = {}) => pixelsOf(pipe, options);
const here = (): number => memoryStats().weightBytes?.simulated ?? 0;
const onHost = (): number => memoryStats().weightBytes?.cpu ?? 0;
const most = (): number => native().counts().mostWeightBytes.simulated ?? 0;
const limit = (bytes: number | null): void => native().limitWeights('simulated', bytes);

/** Bytes of a part's weights, by its parameters' shapes. */
function bytesOf(name: 'unet' | 'vae' | 'textEncoder'): number {
  const shapes = [...pipe.components[name].network.parameters.values()];
  return 4 * shapes.reduce((sum, shape) => sum + shape.reduce((a, b) => a * b, 1), 0);
}

before(async () => {
  pipe = await StableDiffusionImg2ImgPipeline.fromPretrained(demoModel, { dtype: 'float32' });
  whole = here();
  expected = await pixels();
});
afterEach(async () => {
  limit(null);
  pipe.disableModelCpuOffload();
  await pipe.unloadLoraWeights();
  await settled();
});
after(() => {
  rmSync(folder, { recursive: true });
  pipe.dispose();
  assert.deepEqual(memoryStats(), { tensors: 0, tensorBytes: 0, networks: 0 });
});

/** Nothing else is asked for until a run of the smallest network is through. */
async function settled(): Promise<void> {
  const { textEncoder } = pipe.components;
  (await textEncoder.encode([[1, 2, 3]])).dispose();
}

test('without offload all weights stay on the device', () => {
  assert.equal(whole, bytesOf('unet') + bytesOf('vae') + bytesOf('textEncoder'));
  assert.equal(onHost(), 0);
});

test('model offload draws the same picture with one part on the device at a time', async () => {
  pipe.enableModelCpuOffload();
  await settled();
  assert.ok(here() <= bytesOf('textEncoder') * 1.01);
  assert.equal(onHost(), whole);
  limit(null);
  const seen: number[] = [];
  const drawn = await pixels({
    onStep: () => {
      seen.push(here());
    },
  });
  assert.deepEqual(drawn, expected);
  for (const bytes of seen) {
    assert.ok(bytes >= bytesOf('unet') && bytes < bytesOf('unet') * 1.01, `${bytes}`);
  }
  assert.ok(most() < whole - bytesOf('textEncoder'), `${most()} of ${whole}`);
  await settledAway();
  pipe.disableModelCpuOffload();
  await settled();
  assert.deepEqual([here(), onHost()], [whole, 0]);
  assert.deepEqual(await pixels(), expected);
});

/** All have left, which is asked for at the end of a generation and takes its turn. */
async function settledAway(): Promise<void> {
  for (let i = 0; i < 1000 && here() > 0; i += 1) await new Promise((wake) => setTimeout(wake, 1));
  assert.equal(here(), 0);
}

test('sequential offload draws the same picture with a fraction of the weights on the device', async () => {
  pipe.enableSequentialCpuOffload();
  await settled();
  limit(null);
  assert.deepEqual(await pixels(), expected);
  assert.ok(most() < whole / 4, `${most()} of ${whole}`);
  assert.deepEqual([here(), onHost()], [0, whole]);
});

test('the modes follow one another in any order', async () => {
  pipe.enableSequentialCpuOffload();
  pipe.enableModelCpuOffload();
  assert.deepEqual(await pixels(), expected);
  pipe.enableSequentialCpuOffload();
  assert.deepEqual(await pixels(), expected);
  assert.equal(here(), 0);
  pipe.disableSequentialCpuOffload();
  pipe.disableSequentialCpuOffload();
  assert.deepEqual(await pixels(), expected);
  assert.equal(here(), whole);
});

test('a mode set while a picture is drawn changes nothing about it', async () => {
  const modes = ['Model', 'Sequential', 'Model'] as const;
  const drawn = await pixels({
    onStep: ({ step }) => pipe[`enable${modes[step % 3] ?? 'Model'}CpuOffload`](),
  });
  assert.deepEqual(drawn, expected);
});

for (const offload of ['model', 'sequential'] as const) {
  test(`a pipeline loaded with ${offload} offload never has all weights on the device`, async () => {
    limit(null);
    const before = here();
    using other = await StableDiffusionImg2ImgPipeline.fromPretrained(demoModel, {
      dtype: 'float32',
      offload,
    });
    assert.equal(most(), before);
    assert.deepEqual(await pixelsOf(other), expected);
    assert.ok(most() - before < whole - bytesOf('textEncoder'));
  });
}

test('a part that finds no memory is a typed error, and the next try finds all in order', async () => {
  pipe.enableModelCpuOffload();
  await settled();
  limit(Math.floor(bytesOf('unet') / 2));
  await assert.rejects(pixels(), OutOfMemoryError);
  await settledAway();
  using sample = full([1, pipe.components.unet.inChannels, 8, 8], 0.5);
  using text = full([1, 24, 128], 0.5);
  await assert.rejects(pipe.components.unet.predict(sample, 1, text), OutOfMemoryError);
  assert.equal(here(), 0, 'the groups that had found room are gone');
  // What comes part by part is content with it.
  pipe.enableSequentialCpuOffload();
  assert.deepEqual(await pixels(), expected);
  pipe.enableModelCpuOffload();
  await assert.rejects(pixels(), { code: 'ERR_OUT_OF_MEMORY', message: /bytes on simulated/ });
  limit(null);
  assert.deepEqual(await pixels(), expected);
});

test('weights that find no way back stay offloaded, and the next run says so', async () => {
  pipe.enableModelCpuOffload();
  await settled();
  limit(Math.floor(bytesOf('unet') / 2));
  pipe.disableModelCpuOffload();
  await assert.rejects(pixels(), OutOfMemoryError);
  limit(null);
  pipe.enableModelCpuOffload();
  assert.deepEqual(await pixels(), expected);
});

test('a run that fails in the middle leaves the weights in order', async () => {
  const { unet } = pipe.components;
  const width = unet.network.config.cross_attention_dim as number;
  for (const mode of ['Model', 'Sequential'] as const) {
    pipe[`enable${mode}CpuOffload`]();
    using sample = full([1, unet.inChannels, 8, 8], 0.5);
    // The first convolutions run; the first cross-attention cannot.
    using text = full([1, 24, width + 1], 0.5);
    await assert.rejects(unet.predict(sample, 1, text), { code: 'ERR_TORCH' });
    assert.deepEqual(await pixels(), expected);
  }
});

test('adapters change weights wherever they are', async () => {
  const file = write(folder, 'some', someLayers(1));
  await pipe.loadLoraWeights(file);
  const adapted = await pixels();
  assert.ok(distance(adapted, expected) > 1e-2);
  for (const mode of ['Model', 'Sequential'] as const) {
    pipe[`enable${mode}CpuOffload`]();
    assert.deepEqual(await pixels(), adapted, 'taken along');
    await pipe.unloadLoraWeights();
    assert.deepEqual(await pixels(), expected, 'taken out on the host');
    await pipe.loadLoraWeights(file);
    assert.deepEqual(await pixels(), adapted, 'put in on the host');
    // In the middle of a generation the UNet's weights are on the device.
    await pixels({ onStep: () => pipe.unloadLoraWeights() });
    assert.deepEqual(await pixels(), expected, 'taken out on the device');
    await pipe.loadLoraWeights(file);
  }
  pipe.disableModelCpuOffload();
  assert.deepEqual(await pixels(), adapted, 'brought back');
});

test('an inverted word makes the table longer wherever it is', async () => {
  const word = write(folder, 'word', { '<word>': array([3, 128], 1, 1) });
  const options = { prompt: 'a <word> house' };
  await pipe.loadTextualInversion(word);
  const named = await pixels(options);
  await pipe.unloadTextualInversion();
  for (const mode of ['Model', 'Sequential'] as const) {
    pipe[`enable${mode}CpuOffload`]();
    await pixels();
    await pipe.loadTextualInversion(word);
    assert.deepEqual(await pixels(options), named);
    await pipe.unloadTextualInversion();
    assert.deepEqual(await pixels(), expected);
  }
});

test('generations at the same time, of pipelines that share networks, do not disturb one another', async () => {
  pipe.enableModelCpuOffload();
  using textToImage = await StableDiffusionPipeline.fromPipe(pipe);
  const text = async (): Promise<Float32Array> => {
    const { images } = await textToImage.generate({
      ...{ prompt: 'a boat', numInferenceSteps: 2, height: 32, width: 32, seed: 3 },
      outputType: 'tensor',
    });
    using picture = images;
    return await picture.toFloat32Array();
  };
  const alone = [await pixels(), await text(), await pixels({ seed: 5 })];
  limit(Math.ceil(bytesOf('unet') * 1.01));
  const all = await Promise.all([pixels(), text(), pixels({ seed: 5 })]);
  for (const [i, picture] of all.entries()) {
    // A batch takes other routes through the kernels: last bits differ.
    assert.ok(distance(picture, alone[i] as Float32Array) < 1e-4, `picture ${i}`);
  }
});

test('a preview in the middle finds the decoder, and the UNet its way back', async () => {
  pipe.enableModelCpuOffload();
  const drawn = await pixels({
    onStep: async ({ preview }) => {
      await preview();
      assert.ok(here() < bytesOf('unet'));
    },
  });
  assert.deepEqual(drawn, expected);
});

test('a pipeline disposed while its weights are on their way goes without a trace', async () => {
  for (const offload of ['model', 'sequential'] as const) {
    const before = memoryStats();
    const other = await StableDiffusionImg2ImgPipeline.fromPretrained(demoModel, {
      dtype: 'float32',
      offload,
    });
    const drawing = pixelsOf(other);
    other.dispose();
    await assert.rejects(drawing, { code: 'ERR_DISPOSED' });
    await settled();
    assert.deepEqual(memoryStats(), before);
    assert.throws(() => other.enableModelCpuOffload(), { code: 'ERR_DISPOSED' });
  }
});

test('on a machine without an accelerator offload does nothing, and says so once', async (context) => {
  simulateAccelerator(false);
  context.after(() => simulateAccelerator(true));
  const warnings: (string | undefined)[] = [];
  const listen = (warning: Error & { code?: string }) => warnings.push(warning.code);
  process.on('warning', listen);
  context.after(() => process.off('warning', listen));
  using plain = await StableDiffusionImg2ImgPipeline.fromPretrained(demoModel, {
    offload: 'sequential',
  });
  const drawn = await pixelsOf(plain);
  plain.enableModelCpuOffload();
  plain.enableSequentialCpuOffload();
  plain.disableModelCpuOffload();
  assert.deepEqual(await pixelsOf(plain), drawn);
  assert.deepEqual(warnings, ['TORCHBRUSH_NO_OFFLOAD']);
});

test('what is always on is accepted, with options that can be meant', async () => {
  pipe.enableXformersMemoryEfficientAttention();
  pipe.disableXformersMemoryEfficientAttention();
  pipe.enableAttentionSlicing();
  pipe.enableAttentionSlicing('max');
  pipe.enableAttentionSlicing(2);
  pipe.disableAttentionSlicing();
  for (const sliceSize of ['half', 0, 1.5, null] as unknown[]) {
    assert.throws(() => pipe.enableAttentionSlicing(sliceSize as 'auto'), /sliceSize/);
  }
  await assert.rejects(
    StableDiffusionPipeline.fromPretrained(demoModel, { offload: 'cpu' as 'model' }),
    /'model', 'sequential' for offload but received "cpu"/,
  );
});
