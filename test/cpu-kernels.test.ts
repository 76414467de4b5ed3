// What the CPU's own operators make of a network, against libtorch's: sizes that fill no block, no
// tile and no vector, both dtypes, and batches of any size.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { Generator, memoryStats, type Tensor } from '../lib/index.js';
import { Network } from '../lib/networks/network.js';
import { simulateAccelerator } from '../lib/networks/offload.js';
import { TextEncoder } from '../lib/networks/text-encoder.js';
import { full, randn } from '../lib/ops.js';
import type { DType } from '../lib/tensor.js';
import { demoModel } from './helpers.js';

type Kind = 'own' | 'plain';

const networks = new Map<string, Network>();
const networkOf = (part: string, dtype: DType, kind: Kind): Network =>
  networks.get(`${part} ${dtype} ${kind}`) as Network;

async function load(part: string, className: string, dtype: DType, kind: Kind): Promise<void> {
  // In this mode networks take libtorch's operators as they are.
  simulateAccelerator(kind === 'plain');
  const options = { dtype, device: 'cpu' };
  const network = await Network.load(join(demoModel, part), className, options);
  networks.set(`${part} ${dtype} ${kind}`, network);
  simulateAccelerator(false);
}

before(async () => {
  for (const dtype of ['float32', 'bfloat16'] as const) {
    for (const kind of ['own', 'plain'] as const) {
      await load('unet', 'UNet2DConditionModel', dtype, kind);
      await load('vae', 'AutoencoderKL', dtype, kind);
      await load('text_encoder', 'CLIPTextModel', dtype, kind);
    }
  }
});
after(() => {
  for (const network of networks.values()) network.dispose();
  assert.deepEqual(memoryStats(), { tensors: 0, tensorBytes: 0, networks: 0 });
});

async function run(network: Network, entry: string, output: string, shapes: number[][]) {
  const generator = new Generator().manualSeed(1);
  const place = { dtype: network.dtype, device: network.device };
  const named = shapes.map((shape, index) => {
    using drawn = randn(shape, { generator });
    const input = shape.length === 1 ? full(shape, 321, { device: 'cpu' }) : drawn.to(place);
    return [network.inputsOf(entry)[index] as string, input] as const;
  });
  try {
    const [result] = await network.run(entry, Object.fromEntries(named), [output]);
    using made = result as Tensor;
    return await made.toFloat32Array();
  } finally {
    for (const [, input] of named) input.dispose();
  }
}

function errorOf(values: Float32Array, exact: Float32Array): { largest: number; mean: number } {
  assert.equal(values.length, exact.length);
  let largest = 0;
  let sum = 0;
  for (const [i, value] of values.entries()) {
    const error = Math.abs(value - (exact[i] as number));
    assert.ok(Number.isFinite(error));
    largest = Math.max(largest, error);
    sum += error;
  }
  return { largest, mean: sum / values.length };
}

const scaleOf = (values: Float32Array): number =>
  values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

const cases: [batch: number, height: number, width: number][] = [
  [2, 16, 16],
  [1, 17, 13],
  [3, 9, 31],
  [2, 2, 2],
  [1, 40, 24],
];

for (const [batch, height, width] of cases) {
  const size = `${batch}×${height}×${width}`;
  const parts = [
    ['unet', 'forward', 'sample', [[batch, 4, height, width], [1], [batch, 24, 128]]],
    ['vae', 'decode', 'sample', [[batch, 4, height, width]]],
  ] as const;
  for (const [part, entry, output, shapes] of parts) {
    const result = (dtype: DType, kind: Kind) =>
      run(networkOf(part, dtype, kind), entry, output, shapes as unknown as number[][]);

    test(`${part} at ${size}: float32 is libtorch's to rounding`, async () => {
      const exact = await result('float32', 'plain');
      const { largest } = errorOf(await result('float32', 'own'), exact);
      assert.ok(largest <= 1e-5 * scaleOf(exact), `${largest} of ${scaleOf(exact)}`);
    });

    test(`${part} at ${size}: bfloat16 is no farther from float32 than libtorch's`, async () => {
      const exact = await result('float32', 'plain');
      const theirs = errorOf(await result('bfloat16', 'plain'), exact);
      const ours = errorOf(await result('bfloat16', 'own'), exact);
      // The largest error of so few values is a matter of luck; their mean is not.
      assert.ok(ours.mean <= 1.15 * theirs.mean, `${ours.mean} against ${theirs.mean}`);
      assert.ok(ours.largest <= 2 * theirs.largest, `${ours.largest} against ${theirs.largest}`);
    });
  }
}

// Its attention has a mask: no token sees those behind it.
test("text encoder: float32 is libtorch's to rounding, bfloat16 no farther than libtorch's", async () => {
  const tokens = [0, 1].map((row) =>
    Array.from({ length: 24 }, (_, i) => (7 + 31 * i + row) % 200),
  );
  const encode = async (dtype: DType, kind: Kind) => {
    using encoded = await new TextEncoder(networkOf('text_encoder', dtype, kind)).encode(tokens);
    return await encoded.toFloat32Array();
  };
  const exact = await encode('float32', 'plain');
  const { largest } = errorOf(await encode('float32', 'own'), exact);
  assert.ok(largest <= 1e-5 * scaleOf(exact), `${largest} of ${scaleOf(exact)}`);
  const theirs = errorOf(await encode('bfloat16', 'plain'), exact);
  const ours = errorOf(await encode('bfloat16', 'own'), exact);
  assert.ok(ours.mean <= 1.15 * theirs.mean, `${ours.mean} against ${theirs.mean}`);
});

test('text encoder: what follows a token changes nothing before it', async () => {
  const encoder = new TextEncoder(networkOf('text_encoder', 'float32', 'own'));
  const width = 24;
  const tokens = Array.from({ length: width }, (_, i) => 5 + i);
  const encode = async (row: number[]) => {
    using encoded = await encoder.encode([row]);
    return await encoded.toFloat32Array();
  };
  const one = await encode(tokens);
  const other = await encode([...tokens.slice(0, 12), ...tokens.slice(12).reverse()]);
  const half = one.length / 2;
  assert.deepEqual(one.slice(0, half), other.slice(0, half));
  assert.notDeepEqual(one.slice(half), other.slice(half));
});

test('a result does not depend on who else is in the batch', async () => {
  const network = networkOf('unet', 'float32', 'own');
  const alone = await run(network, 'forward', 'sample', [[1, 4, 16, 16], [1], [1, 24, 128]]);
  const again = await run(network, 'forward', 'sample', [[1, 4, 16, 16], [1], [1, 24, 128]]);
  assert.deepEqual(alone, again);
});

test('rows of another width than the weights are refused, also by packed ones', async () => {
  const network = networkOf('unet', 'float32', 'own');
  const shapes = (width: number) => [[1, 4, 16, 16], [1], [1, 24, width]];
  await run(network, 'forward', 'sample', shapes(128));
  for (const width of [64, 256]) {
    const running = run(network, 'forward', 'sample', shapes(width));
    await assert.rejects(running, { code: 'ERR_TORCH' });
  }
  await run(network, 'forward', 'sample', shapes(128));
});
