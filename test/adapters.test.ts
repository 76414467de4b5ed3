// LoRA adapters on the embedded model. That the numbers are diffusers' is the parity tests' matter.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';

import {
  AutoPipelineForImage2Image,
  configure,
  memoryStats,
  StableDiffusionPipeline,
} from '../lib/index.js';
import { array, float32, noise, someLayers, write } from './adapter-files.js';
import { distance } from './drawing.js';
import { demoCopy, demoModel } from './helpers.js';
import { converted, readArrays, writeArrays } from './safetensors-writer.js';

configure({ threads: 1 });

let pipe: StableDiffusionPipeline;
let base: Float32Array;
const folder = mkdtempSync(join(tmpdir(), 'torchbrush-test-'));
const file = write(folder, 'some', someLayers(1));
before(async () => {
  pipe = await StableDiffusionPipeline.fromPretrained(demoModel, { dtype: 'float32' });
  base = await draw();
});
afterEach(async () => {
  await pipe.unfuseLora();
  await pipe.enableLora();
  await pipe.unloadLoraWeights();
});
after(() => {
  rmSync(folder, { recursive: true });
  pipe.dispose();
  assert.deepEqual(memoryStats(), { tensors: 0, tensorBytes: 0, networks: 0 });
});

async function draw(from = pipe): Promise<Float32Array> {
  const options = { prompt: 'a red circle', numInferenceSteps: 2, seed: 1, height: 32, width: 32 };
  const { images } = await from.generate({ ...options, outputType: 'tensor' });
  using picture = images;
  return picture.toFloat32Array();
}

test('an adapter changes the picture, and without it the bits are the old ones', async () => {
  const stats = memoryStats();
  await pipe.loadLoraWeights(file);
  assert.deepEqual(pipe.getActiveAdapters(), ['default_0']);
  assert.ok(distance(await draw(), base) > 1e-2);
  await pipe.unloadLoraWeights();
  assert.deepEqual(pipe.getActiveAdapters(), []);
  assert.deepEqual(await draw(), base);
  assert.deepEqual(memoryStats(), stats);
});

for (const dtype of ['float32', 'bfloat16'] as const) {
  test(`in ${dtype} weights written over are those that were packed with the adapter`, async () => {
    using used = await StableDiffusionPipeline.fromPretrained(demoModel, { dtype });
    const without = await draw(used);
    await used.loadLoraWeights(file);
    using fresh = await StableDiffusionPipeline.fromPretrained(demoModel, { dtype });
    await fresh.loadLoraWeights(file);
    const expected = await draw(fresh);
    assert.ok(distance(expected, without) > 1e-2);
    assert.deepEqual(await draw(used), expected);
    await fresh.unloadLoraWeights();
    assert.deepEqual(await draw(fresh), without);
  });
}

test('weights scale an adapter, to nothing at 0 and to the contrary below', async () => {
  await pipe.loadLoraWeights(file, { adapterName: 'a' });
  const full = await draw();
  await pipe.setAdapters('a', 0.5);
  const half = await draw();
  await pipe.setAdapters('a', -1);
  const contrary = await draw();
  assert.ok(distance(half, full) > 1e-3 && distance(contrary, base) > 1e-3);
  assert.ok(distance(contrary, full) > distance(half, full));
  await pipe.setAdapters('a', 0);
  assert.deepEqual(await draw(), base);
  await pipe.setAdapters(['a']);
  assert.deepEqual(await draw(), full);
});

test('several adapters add up, in one network or the other', async () => {
  const other = write(folder, 'other', someLayers(2));
  await pipe.loadLoraWeights(file, { adapterName: 'a' });
  const first = await draw();
  await pipe.loadLoraWeights(other, { adapterName: 'b' });
  assert.deepEqual(pipe.getActiveAdapters(), ['b']);
  assert.deepEqual(pipe.getListAdapters(), ['a', 'b']);
  const second = await draw();
  await pipe.setAdapters(['a', 'b']);
  const both = await draw();
  assert.ok(Math.min(distance(both, first), distance(both, second)) > 1e-3);
  await pipe.setAdapters(
    ['a', 'b'],
    [
      { unet: 0, textEncoder: 1 },
      { unet: 1, textEncoder: 0 },
    ],
  );
  assert.ok(distance(await draw(), both) > 1e-3);
  await pipe.deleteAdapters('a');
  assert.deepEqual(pipe.getActiveAdapters(), ['b']);
  await pipe.setAdapters('b');
  assert.deepEqual(await draw(), second);
});

test('disabled adapters come back, and fused ones stay until unfused', async () => {
  await pipe.loadLoraWeights(file);
  const with1 = await draw();
  await pipe.disableLora();
  assert.deepEqual(await draw(), base);
  await pipe.enableLora();
  assert.deepEqual(await draw(), with1);
  await pipe.setAdapters('default_0', 0.5);
  const half = await draw();
  await pipe.setAdapters('default_0');
  await pipe.fuseLora({ loraScale: 0.5 });
  assert.deepEqual(await draw(), half);
  await pipe.unloadLoraWeights();
  assert.deepEqual(await draw(), half);
  await pipe.unfuseLora();
  assert.deepEqual(await draw(), base);
});

test('one adapter can be fused by its name', async () => {
  await pipe.loadLoraWeights(file, { adapterName: 'style' });
  const active = await draw();
  await pipe.fuseLora({ adapterNames: 'style' });
  await pipe.unloadLoraWeights();
  assert.deepEqual(await draw(), active);
  await pipe.unfuseLora();
  assert.deepEqual(await draw(), base);
});

test('pipelines that share the networks share the adapters', async () => {
  using other = await AutoPipelineForImage2Image.fromPipe(pipe);
  await pipe.loadLoraWeights(file, { adapterName: 'a' });
  assert.deepEqual(other.getActiveAdapters(), ['a']);
  await other.unloadLoraWeights();
  assert.deepEqual(pipe.getListAdapters(), []);
  assert.deepEqual(await draw(), base);
});

test('a change in the middle of a generation takes its turn between runs', async () => {
  const running = draw();
  const changing = pipe.loadLoraWeights(file);
  await Promise.all([running, changing]);
  await pipe.unloadLoraWeights();
  assert.deepEqual(await draw(), base);
});

test('in bfloat16 the old bits come back too', async () => {
  using half = await StableDiffusionPipeline.fromPretrained(demoModel, { dtype: 'bfloat16' });
  const before = await draw(half);
  await half.loadLoraWeights(file);
  assert.ok(distance(await draw(half), before) > 1e-2);
  await half.unloadLoraWeights();
  assert.deepEqual(await draw(half), before);
});

/** Plain loops: out[o,i,y,x] = base + scale·Σ up[o,r]·down[r,i,y,x]. */
function withProduct(
  weight: Float32Array,
  rows: number,
  up: Float32Array,
  down: Float32Array,
  scale: number,
): Float32Array {
  const columns = weight.length / rows;
  const rank = up.length / rows;
  return weight.map((value, at) => {
    const [row, column] = [Math.floor(at / columns), at % columns];
    let sum = 0;
    for (let r = 0; r < rank; r += 1) {
      sum += (up[row * rank + r] as number) * (down[r * columns + column] as number);
    }
    return value + scale * sum;
  });
}

/** down[r,i,y,x] = Σ middle[r,s,y,x]·down[s,i], the Tucker form of LyCORIS. */
function withMiddle(middle: Float32Array, down: Float32Array, rank: number, inputs: number) {
  const kernel = middle.length / rank / rank;
  return Float32Array.from({ length: rank * inputs * kernel }, (_, at) => {
    const [r, rest] = [Math.floor(at / (inputs * kernel)), at % (inputs * kernel)];
    const [i, k] = [Math.floor(rest / kernel), rest % kernel];
    let sum = 0;
    for (let s = 0; s < rank; s += 1) {
      const value = middle[(r * rank + s) * kernel + k] as number;
      sum += value * (down[s * inputs + i] as number);
    }
    return sum;
  });
}

test("Kohya's file gives the picture of weights that were merged by hand", async (context) => {
  const rank = 3;
  const factor = (count: number, seed: number) => noise(count, seed).map((value) => value * 0.2);
  const linear = { up: factor(128 * rank, 1), down: factor(rank * 128, 2) };
  const kernel = {
    up: factor(128 * rank, 3),
    middle: factor(rank * rank * 9, 4),
    down: factor(rank * 128, 5),
  };
  const [toQ, conv] = [
    'mid_block.attentions.0.transformer_blocks.0.attn1.to_q',
    'mid_block.resnets.0.conv1',
  ];
  const [toQKey, convKey] = [
    `lora_unet_${toQ.replaceAll('.', '_')}`,
    'lora_unet_middle_block_0_in_layers_2',
  ];
  const kohya = write(folder, 'kohya', {
    [`${toQKey}.lora_up.weight`]: float32(linear.up, [128, rank]),
    [`${toQKey}.lora_down.weight`]: float32(linear.down, [rank, 128]),
    [`${convKey}.lora_up.weight`]: float32(kernel.up, [128, rank, 1, 1]),
    [`${convKey}.lora_mid.weight`]: float32(kernel.middle, [rank, rank, 3, 3]),
    [`${convKey}.lora_down.weight`]: float32(kernel.down, [rank, 128, 1, 1]),
    [`${convKey}.alpha`]: float32(new Float32Array([6]), []),
  });
  const merged = demoCopy(context);
  const path = join(merged, 'unet', 'diffusion_pytorch_model.safetensors');
  const arrays = readArrays(path);
  const merge = (name: string, up: Float32Array, down: Float32Array, scale: number) => {
    const stored = converted(arrays.get(name) as never, 'F32');
    const values = new Float32Array(stored.data.buffer);
    arrays.set(name, float32(withProduct(values, 128, up, down, scale), stored.shape));
  };
  merge(`${toQ}.weight`, linear.up, linear.down, 0.8);
  merge(`${conv}.weight`, kernel.up, withMiddle(kernel.middle, kernel.down, rank, 128), 0.8 * 2);
  writeArrays(path, arrays);
  using byHand = await StableDiffusionPipeline.fromPretrained(merged, { dtype: 'float32' });
  await pipe.loadLoraWeights(kohya, { adapterName: 'k' });
  await pipe.setAdapters('k', 0.8);
  const ours = await draw();
  assert.ok(distance(ours, base) > 1e-2);
  assert.ok(distance(ours, await draw(byHand)) < 1e-5);
});

test('an adapter whose file is gone leaves the base in its place', async () => {
  const gone = write(folder, 'gone', someLayers(3));
  await pipe.loadLoraWeights(gone, { adapterName: 'gone' });
  rmSync(gone);
  await assert.rejects(pipe.setAdapters('gone', 2), { code: 'ERR_CHECKPOINT', message: /gone/ });
  assert.deepEqual(pipe.getActiveAdapters(), []);
  assert.deepEqual(await draw(), base);
});

test('a checkpoint that was overwritten meanwhile is noticed', async (context) => {
  const copy = demoCopy(context);
  using own = await StableDiffusionPipeline.fromPretrained(copy, { dtype: 'float32' });
  const path = join(copy, 'unet', 'diffusion_pytorch_model.safetensors');
  writeArrays(path, new Map([['x', array([4], 1, 1)]]));
  await assert.rejects(own.loadLoraWeights(file), {
    code: 'ERR_CHECKPOINT',
    message: /has changed since it was loaded/,
  });
});
