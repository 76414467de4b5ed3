import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';

import {
  AutoPipelineForImage2Image,
  configure,
  demoModel,
  type ImageToImageOptions,
  loadImage,
  memoryStats,
  Tensor,
} from '../lib/index.js';
import { Batching, type Pass } from '../lib/networks/batching.js';
import { add } from '../lib/ops.js';

const numbers = (rows: number, first: number, columns = 2): Tensor =>
  Tensor.fromArray(
    Float32Array.from({ length: rows * columns }, (_, i) => first + i),
    [rows, columns],
  );

/** A network that adds `offset` to `sample`, and the rows of each of its passes. */
function adder(failing: (rows: number) => boolean = () => false): { pass: Pass; rows: number[] } {
  const rows: number[] = [];
  const pass: Pass = async ({ sample, offset }) => {
    const count = sample?.shape[0] ?? 0;
    rows.push(count);
    await new Promise(setImmediate);
    if (failing(count)) throw new Error(`${count} rows are too many`);
    return [add(sample as Tensor, offset as Tensor)];
  };
  return { pass, rows };
}

async function request(batching: Batching, rows: number, first: number): Promise<number[]> {
  using sample = numbers(rows, first);
  using offset = numbers(1, 100);
  const [result] = await batching.run({ sample, offset }, ['sum']);
  using sum = result as Tensor;
  return [...sum.data] as number[];
}

/** first, first+1, … with the single row [100, 101] added to each row. */
const expected = (rows: number, first: number): number[] =>
  Array.from({ length: rows * 2 }, (_, i) => first + i + 100 + (i % 2));

afterEach(() => assert.equal(memoryStats().tensors, 0));

test('requests that wait go through together, and each gets its own rows', async () => {
  const { pass, rows } = adder();
  const batching = new Batching(pass);
  const sizes = [2, 1, 3, 2];
  const results = await Promise.all(sizes.map((size, i) => request(batching, size, 10 * i)));
  assert.deepEqual(
    results,
    sizes.map((size, i) => expected(size, 10 * i)),
  );
  assert.deepEqual(rows, [2, 6], 'the first finds the network idle');
});

test('those who go on step by step stay together', async () => {
  const { pass, rows } = adder();
  const batching = new Batching(pass);
  const walk = async (steps: number): Promise<void> => {
    for (let step = 0; step < steps; step += 1) await request(batching, 1, step);
  };
  await Promise.all([walk(3), walk(4), walk(2)]);
  assert.deepEqual(rows, [1, 3, 3, 1, 1]);
});

test('requests of other shapes wait for a pass of their own, in turn', async () => {
  const { pass, rows } = adder();
  const batching = new Batching(pass);
  const wide = async (): Promise<void> => {
    using sample = numbers(1, 0, 3);
    using offset = numbers(1, 0, 3);
    for (const tensor of await batching.run({ sample, offset }, ['sum'])) tensor.dispose();
  };
  await Promise.all([
    request(batching, 1, 0),
    wide(),
    request(batching, 4, 0),
    wide(),
    request(batching, 5, 0),
  ]);
  assert.deepEqual(rows, [1, 2, 9]);
});

test('a batch that fails is run again one by one', async () => {
  const { pass, rows } = adder((count) => count > 2);
  const batching = new Batching(pass);
  const outcomes = await Promise.allSettled([
    request(batching, 1, 0),
    request(batching, 2, 0),
    request(batching, 3, 0),
  ]);
  assert.deepEqual(rows, [1, 5, 2, 3]);
  assert.deepEqual(
    outcomes.map(({ status }) => status),
    ['fulfilled', 'fulfilled', 'rejected'],
  );
});

test('what waits is sent on its way before a change', async () => {
  const { pass, rows } = adder();
  const batching = new Batching(pass);
  const running = [1, 2, 3].map((size) => request(batching, size, 0));
  batching.flush();
  assert.deepEqual(rows, [1, 5]);
  await Promise.all(running);
});

test('generations at the same time draw what each draws alone', async () => {
  using pipe = await AutoPipelineForImage2Image.fromPretrained(demoModel);
  const image = await loadImage(`${demoModel}/inputs/house-noto-64.png`);
  const requests: ImageToImageOptions[] = [
    { prompt: 'a castle', image, seed: 1, numInferenceSteps: 5 },
    { prompt: 'a fox', image, seed: 2, numInferenceSteps: 8, guidanceScale: 3, strength: 0.5 },
    { prompt: 'a red car', image, seed: 3, numInferenceSteps: 4, guidanceScale: 1 },
    { prompt: 'a cat', negativePrompt: 'blue', image, seed: [4, 5], numImagesPerPrompt: 2 },
  ].map((options) => ({ numInferenceSteps: 6, ...options }));
  const draw = async (options: ImageToImageOptions): Promise<Float32Array> => {
    using pictures = (await pipe.generate({ ...options, outputType: 'tensor' })).images;
    return await pictures.toFloat32Array();
  };
  const alone: Float32Array[] = [];
  for (const options of requests) alone.push(await draw(options));
  const together = await Promise.all(requests.map(draw));
  for (const [i, pixels] of together.entries()) {
    const difference = pixels.reduce(
      (largest, value, j) => Math.max(largest, Math.abs(value - (alone[i]?.[j] ?? Number.NaN))),
      0,
    );
    assert.ok(difference < 1e-4, `${difference} in request ${i}`);
  }
  configure({ batching: false });
  try {
    assert.deepEqual(await Promise.all(requests.map(draw)), alone);
  } finally {
    configure({ batching: true });
  }
});
