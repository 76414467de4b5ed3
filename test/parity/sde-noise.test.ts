import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { DPMSolverSDEScheduler, Generator, Tensor } from '../../lib/index.js';
import { ensurePython } from '../../scripts/python.js';

const COUNT = 40_000;

interface Noise {
  readonly sigmas: number[];
  /** Of each evaluation's noise with itself and with the one before, averaged. */
  readonly products: { readonly own: number; readonly previous: number }[];
}

async function theirNoise(): Promise<Noise> {
  const script = fileURLToPath(new URL('sde-noise.py', import.meta.url));
  const { stdout } = await promisify(execFile)(await ensurePython(), [script, String(COUNT)]);
  return JSON.parse(stdout) as Noise;
}

function meanProduct(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, value, i) => sum + value * (b[i] ?? 0), 0) / a.length;
}

function ourNoise(): Noise {
  const model = { beta_start: 0.00085, beta_end: 0.012, beta_schedule: 'scaled_linear' };
  using run = DPMSolverSDEScheduler.fromConfig(model).start({ numInferenceSteps: 4 });
  const generator = new Generator().manualSeed(3);
  using zero = Tensor.fromArray(new Float32Array(COUNT), [1, COUNT]);
  const noises = run.timesteps.slice(0, -1).map((t) => {
    using next = run.step(zero, t, zero, { generator });
    return Float32Array.from(next.data as Float32Array);
  });
  const products = noises.map((noise, i) => {
    const before = noises[i - 1];
    return { own: meanProduct(noise, noise), previous: before ? meanProduct(noise, before) : 0 };
  });
  return { sigmas: [...run.sigmas], products };
}

test('DPMSolverSDE draws noise with the variances and correlations that torchsde gives', async () => {
  const [theirs, ours] = [await theirNoise(), ourNoise()];
  assert.equal(ours.products.length, 6);
  for (const [i, { own, previous }] of theirs.products.entries()) {
    const mine = ours.products[i];
    assert.ok(mine);
    // Five standard errors of the difference of two averages of products.
    const scale = 5 * Math.sqrt(4 / COUNT);
    const before = theirs.products[i - 1]?.own ?? 0;
    assert.ok(Math.abs(mine.own - own) < scale * own, `variance ${i}: ${mine.own}, ${own}`);
    assert.ok(
      Math.abs(mine.previous - previous) <= scale * Math.sqrt(own * before),
      `covariance ${i}: ${mine.previous}, ${previous}`,
    );
  }
});
