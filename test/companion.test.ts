// What the GPU's companion does to a network, tried without a GPU: the tests' own companion runs the same
// kernels on the host and "records" by calling the work again.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';

import {
  configure,
  type DType,
  demoModel,
  InvalidArgumentError,
  memoryStats,
  StableDiffusionImg2ImgPipeline,
  Tensor,
} from '../lib/index.js';
import { libtorchInUse } from '../lib/native.js';
import { Network } from '../lib/networks/network.js';
import { simulateAccelerator } from '../lib/networks/offload.js';
import { linearCombination } from '../lib/ops.js';
import { packageRoot } from '../lib/package-root.js';

configure({ threads: 1 });
// Otherwise networks on the CPU take its own operators, where a GPU's would have libtorch's.
simulateAccelerator(true);

const { version, folder } = libtorchInUse();
const minor = version.split('.').slice(0, 2).join('.');
const built = join(packageRoot, `build-${minor}`, 'Release');
const companion = join(built, `torchbrush-host-${minor}.so`);
const skip = existsSync(companion)
  ? false
  : `there is no ${companion}; "npm run build:addon" makes it`;

const house = join(demoModel, 'inputs', 'house-noto-64.png');
const task = { prompt: 'castle, noto style', image: house, numInferenceSteps: 5, seed: 7 } as const;

/** Networks that are made meanwhile are rewritten for the companion. */
async function withCompanion<Result>(make: () => Promise<Result>): Promise<Result> {
  process.env.TORCHBRUSH_COMPANION = companion;
  try {
    return await make();
  } finally {
    delete process.env.TORCHBRUSH_COMPANION;
  }
}

function pattern(seed: number, ...shape: number[]): Tensor {
  const count = shape.reduce((product, size) => product * size, 1);
  let state = seed;
  const values = Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
  return Tensor.fromArray(values, shape);
}

const difference = (a: Float32Array, b: Float32Array): number =>
  a.reduce((most, value, i) => Math.max(most, Math.abs(value - (b[i] as number))), 0);

describe('the companion', { skip }, () => {
  test('its kernels compute what libtorch computes', () => {
    const libraries = join(folder, 'lib');
    const { stdout, status } = spawnSync(join(built, 'companion-check'), [companion, 'cpu'], {
      encoding: 'utf8',
      env: { ...process.env, LD_LIBRARY_PATH: libraries },
    });
    assert.equal(status, 0, stdout);
  });

  test('its sums are in float64, of any number of tensors', async () => {
    const tensors = Array.from({ length: 19 }, (_, i) => pattern(i + 1, 2, 3, 5));
    const coefficients = tensors.map((_, i) => (i % 2 === 0 ? 1e4 + i : -1e4));
    using plain = linearCombination(coefficients, tensors);
    using fused = await withCompanion(async () => linearCombination(coefficients, tensors));
    assert.deepEqual([...fused.data], [...plain.data]);
    for (const tensor of tensors) tensor.dispose();
  });

  const skips = [...Array(4)].map((_, i) => `down_block_additional_residuals.${i}`);
  const usual = ['sample', 'timestep', 'encoder_hidden_states'];
  const unet = (dtype: DType): Promise<Network> =>
    Network.load(join(demoModel, 'unet'), 'UNet2DConditionModel', { dtype, device: 'cpu' });

  test('takes the place of what it has kernels for', async () => {
    using plain = disposable(await unet('float32'));
    using fused = disposable(await withCompanion(() => unet('float32')));
    const before = plain.network.operators('forward', usual, ['sample']);
    const now = fused.network.operators('forward', usual, ['sample']);
    const count = (name: string): number => now[name] ?? 0;
    const norms = count('torchbrush::group_norm') + count('torchbrush::group_norm_silu');
    assert.equal(norms, before['aten::group_norm']);
    assert.ok(count('torchbrush::group_norm_silu') > count('torchbrush::group_norm'));
    assert.equal(count('torchbrush::geglu'), before['aten::gelu']);
    assert.ok(count('torchbrush::add_bias') > 0);
    for (const gone of ['aten::group_norm', 'aten::gelu', 'aten::chunk', 'prim::ListUnpack']) {
      assert.equal(count(gone), 0, gone);
    }
    for (const kept of ['aten::conv2d', 'aten::linear', 'aten::layer_norm']) {
      assert.equal(count(kept), before[kept], kept);
    }
  });

  for (const withResiduals of [false, true]) {
    const what = withResiduals ? 'with what a ControlNet adds' : 'by itself';
    test(`a UNet ${what} predicts the same`, async () => {
      const inputs: Record<string, Tensor> = {
        sample: pattern(1, 2, 4, 4, 6),
        timestep: Tensor.fromArray(Float32Array.of(321), [1]),
        encoder_hidden_states: pattern(2, 2, 5, 128),
      };
      if (withResiduals) {
        for (const [i, name] of skips.entries()) {
          const [channels, h, w] = [
            [80, 4, 6],
            [80, 4, 6],
            [80, 2, 3],
            [128, 2, 3],
          ][i] as [number, number, number];
          inputs[name] = pattern(10 + i, 2, channels, h, w);
        }
        inputs.mid_block_additional_residual = pattern(20, 2, 128, 2, 3);
      }
      const predict = async (network: Network): Promise<Float32Array> => {
        const { dtype } = network;
        const cast = Object.entries(inputs).map(
          ([name, tensor]) =>
            [name, tensor.to({ dtype: name === 'timestep' ? 'float32' : dtype })] as const,
        );
        const [result] = await network.run('forward', Object.fromEntries(cast), ['sample']);
        for (const [, tensor] of cast) tensor.dispose();
        using prediction = result as Tensor;
        return await prediction.toFloat32Array();
      };
      using exact = disposable(await unet('float32'));
      const truth = await predict(exact.network);
      const scale = Math.max(...truth.map(Math.abs));
      using fused = disposable(await withCompanion(() => unet('float32')));
      const error = difference(await predict(fused.network), truth);
      assert.ok(error <= 1e-5 * scale, `${error} of ${scale}`);
      // In bfloat16 no worse than without: fewer values are rounded on the way.
      using plainHalf = disposable(await unet('bfloat16'));
      using fusedHalf = disposable(await withCompanion(() => unet('bfloat16')));
      const usualError = difference(await predict(plainHalf.network), truth);
      const fusedError = difference(await predict(fusedHalf.network), truth);
      assert.ok(fusedError <= 1.25 * usualError, `${fusedError} against ${usualError}`);
      for (const tensor of Object.values(inputs)) tensor.dispose();
    });
  }

  test('an autoencoder keeps its pictures', async () => {
    const load = () =>
      Network.load(join(demoModel, 'vae'), 'AutoencoderKL', { dtype: 'float32', device: 'cpu' });
    using plain = disposable(await load());
    using fused = disposable(await withCompanion(load));
    using latents = pattern(3, 1, 4, 6, 5);
    using picture = pattern(4, 2, 3, 24, 16);
    for (const [entry, inputs, outputs] of [
      ['decode', { latents }, ['sample']],
      ['encode', { sample: picture }, ['mean', 'std']],
    ] as const) {
      const a = await plain.network.run(entry, inputs, outputs);
      const b = await fused.network.run(entry, inputs, outputs);
      for (const [i, tensor] of a.entries()) {
        using one = tensor;
        using other = b[i] as Tensor;
        const truth = await one.toFloat32Array();
        const scale = Math.max(...truth.map(Math.abs));
        assert.ok(difference(await other.toFloat32Array(), truth) <= 1e-5 * scale, entry);
      }
    }
  });
});

describe('recorded runs', { skip }, () => {
  let plain: StableDiffusionImg2ImgPipeline;
  const warnings: (Error & { code?: string })[] = [];
  const note = (warning: Error): void => void warnings.push(warning);
  before(async () => {
    process.on('warning', note);
    plain = await StableDiffusionImg2ImgPipeline.fromPretrained(demoModel);
  });
  after(() => {
    process.off('warning', note);
    plain.dispose();
  });
  afterEach(() => {
    warnings.length = 0;
    assert.equal(memoryStats().tensors, 0);
  });

  const draw = async (
    pipe: StableDiffusionImg2ImgPipeline,
    more: object = {},
  ): Promise<Float32Array> => {
    const { images } = await pipe.generate({ ...task, ...more, outputType: 'tensor' });
    using picture = images as Tensor;
    return await picture.toFloat32Array();
  };
  const compiled = async (): Promise<StableDiffusionImg2ImgPipeline> =>
    await withCompanion(async () => {
      const pipe = await StableDiffusionImg2ImgPipeline.fromPretrained(demoModel);
      await pipe.compile({ mode: 'reduce-overhead' });
      return pipe;
    });

  test('give the same picture, from the second run of a shape on', async () => {
    using pipe = await compiled();
    assert.ok(difference(await draw(pipe), await draw(plain)) < 1e-4);
    const { unet, vae, textEncoder } = pipe.graphs;
    // Five steps at strength 0.8 are four.
    assert.deepEqual(unet, { held: 1, recorded: 1, replayed: 3, eager: 1, fault: '' });
    // The prompt and the negative prompt; autoencoders have no graphs.
    assert.deepEqual(textEncoder, { held: 1, recorded: 1, replayed: 1, eager: 1, fault: '' });
    assert.deepEqual(vae, { held: 0, recorded: 0, replayed: 0, eager: 0, fault: '' });
    assert.ok(difference(await draw(pipe), await draw(plain)) < 1e-4);
    assert.equal(pipe.graphs.unet?.replayed, 7);
    assert.equal(warnings.length, 0);
  });

  test('keep what earlier runs gave', async () => {
    using pipe = await compiled();
    const { unet } = pipe.components;
    const predict = async (seed: number): Promise<Tensor> => {
      using sample = pattern(seed, 2, 4, 16, 16);
      using text = pattern(2, 2, 24, 128);
      return await unet.predict(sample, 500, text);
    };
    using first = await predict(1);
    using second = await predict(1);
    const values = await second.toFloat32Array();
    using third = await predict(9);
    assert.deepEqual(await second.toFloat32Array(), values);
    assert.deepEqual(await first.toFloat32Array(), values);
    assert.ok(difference(await third.toFloat32Array(), values) > 1e-3);
  });

  test('see another prompt, and the first one again', async () => {
    using pipe = await compiled();
    using sample = pattern(1, 2, 4, 16, 16);
    using first = pattern(2, 2, 24, 128);
    using second = pattern(3, 2, 24, 128);
    const predict = async (from: StableDiffusionImg2ImgPipeline, text: Tensor) => {
      using prediction = await from.components.unet.predict(sample, 500, text);
      return await prediction.toFloat32Array();
    };
    const expected = new Map([
      [first, await predict(plain, first)],
      [second, await predict(plain, second)],
    ]);
    // Eager, recorded, replayed with what follows from the same prompt, and with another.
    for (const text of [first, first, first, second, second, first, second]) {
      const wanted = expected.get(text) as Float32Array;
      assert.ok(difference(await predict(pipe, text), wanted) < 1e-4);
    }
    const [a, b] = [...expected.values()] as [Float32Array, Float32Array];
    assert.ok(difference(a, b) > 1e-3);
  });

  test('are bounded, and the least recently used go first', async () => {
    using pipe = await compiled();
    const { unet } = pipe.components;
    using text = pattern(2, 1, 24, 128);
    const twice = async (height: number): Promise<void> => {
      for (let i = 0; i < 2; i += 1) {
        using sample = pattern(1, 1, 4, height, 8);
        (await unet.predict(sample, 500, text)).dispose();
      }
    };
    for (let i = 1; i <= 10; i += 1) await twice(4 * i);
    assert.deepEqual(pipe.graphs.unet, {
      held: 8,
      recorded: 10,
      replayed: 10,
      eager: 10,
      fault: '',
    });
    await twice(40);
    assert.equal(pipe.graphs.unet?.recorded, 10);
    await twice(4);
    const { held, recorded } = pipe.graphs.unet ?? {};
    assert.deepEqual({ held, recorded }, { held: 8, recorded: 11 });
  });

  test('are made anew when weights change', async () => {
    using pipe = await compiled();
    await draw(pipe);
    assert.equal(pipe.graphs.unet?.held, 1);
    const [[parameter] = []] = [...pipe.components.unet.network.parameters];
    await pipe.components.unet.network.updateWeights([
      { parameter: parameter as string, terms: [] },
    ]);
    assert.equal(pipe.graphs.unet?.held, 0);
    assert.ok(difference(await draw(pipe), await draw(plain)) < 1e-4);
    assert.equal(pipe.graphs.unet?.recorded, 2);
  });

  test('fall back when recording fails, and say so once', async () => {
    using pipe = await compiled();
    process.env.TORCHBRUSH_HOST_RECORDING_FAILS = '1';
    try {
      assert.ok(difference(await draw(pipe), await draw(plain)) < 1e-4);
      await draw(pipe, { numImagesPerPrompt: 2 });
    } finally {
      delete process.env.TORCHBRUSH_HOST_RECORDING_FAILS;
    }
    const { held, replayed, fault } = pipe.graphs.unet ?? {};
    assert.deepEqual({ held, replayed }, { held: 0, replayed: 0 });
    assert.match(fault ?? '', /told to fail/);
    await new Promise(setImmediate);
    // Of the UNet's two sizes one is told.
    const told = warnings.filter(({ message }) => message.includes('UNet2DConditionModel'));
    assert.deepEqual(
      told.map(({ code }) => code),
      ['TORCHBRUSH_GRAPH_FAILED'],
    );
    assert.match(told[0]?.message ?? '', /told to fail/);
  });
});

test('compile() on the CPU has nothing to do, and refuses modes it does not know', async () => {
  using pipe = await StableDiffusionImg2ImgPipeline.fromPretrained(demoModel);
  await pipe.compile();
  await pipe.compile({ mode: 'reduce-overhead' });
  assert.deepEqual(pipe.graphs.unet, { held: 0, recorded: 0, replayed: 0, eager: 0, fault: '' });
  await assert.rejects(pipe.compile({ mode: 'max-autotune' as 'reduce-overhead' }), {
    name: InvalidArgumentError.name,
    message: /Expected 'reduce-overhead' for mode but received "max-autotune"/,
  });
  await assert.rejects(pipe.compile({ fullgraph: true } as object), InvalidArgumentError);
  pipe.dispose();
  await assert.rejects(pipe.compile(), { code: 'ERR_DISPOSED' });
});

function disposable(network: Network): { network: Network } & Disposable {
  return { network, [Symbol.dispose]: () => network.dispose() };
}
