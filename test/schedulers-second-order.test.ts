import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  DPMSolverSDEScheduler,
  Generator,
  HeunDiscreteScheduler,
  KDPM2AncestralDiscreteScheduler,
  KDPM2DiscreteScheduler,
  LMSDiscreteScheduler,
  type SchedulerRun,
  Tensor,
} from '../lib/index.js';
import { brownianShares } from '../lib/schedulers/dpm-solver-sde.js';
import { ancestralDescent } from '../lib/schedulers/kdpm2-ancestral-discrete.js';
import { lmsCoefficients } from '../lib/schedulers/lms-discrete.js';

const invalid = { name: 'InvalidArgumentError', code: 'ERR_INVALID_ARGUMENT' };
const model = { beta_start: 0.00085, beta_end: 0.012, beta_schedule: 'scaled_linear' };

function close(actual: number, expected: number, limit = 1e-12): void {
  const error = Math.abs(actual - expected);
  assert.ok(error <= limit * Math.max(1, Math.abs(expected)), `${actual} is not ${expected}`);
}

test('LMS weights integrate polynomials of their order exactly', () => {
  const levels = [2.5, 3.1, 4.4, 7];
  const next = 1.9;
  for (let order = 1; order <= 4; order++) {
    const weights = lmsCoefficients(levels.slice(0, order), next);
    for (let power = 0; power < order; power++) {
      const sum = weights.reduce((total, w, k) => total + w * (levels[k] ?? 0) ** power, 0);
      close(sum, (next ** (power + 1) - 2.5 ** (power + 1)) / (power + 1));
    }
  }
});

/** Runs over a whole schedule with a network that knows the image, which is 0.7. */
function denoise(run: SchedulerRun, perfect: (x: number, sigma: number) => number): number {
  let x = 0.7 + 3 * run.initNoiseSigma;
  for (const t of run.timesteps) {
    using sample = Tensor.fromArray(Float64Array.of(x), [1, 1]);
    using input = run.scaleModelInput(sample, t);
    const ratio = (input.data as Float64Array)[0] ?? 0;
    // The level that the scaled input tells.
    const sigma = Math.sqrt((x / ratio) ** 2 - 1);
    using output = Tensor.fromArray(Float64Array.of(perfect(x, sigma)), [1, 1]);
    const generator = new Generator().manualSeed(1);
    using next = run.step(output, t, sample, { generator, sNoise: 0 });
    x = (next.data as Float64Array)[0] ?? 0;
  }
  return x;
}

for (const Class of [
  LMSDiscreteScheduler,
  HeunDiscreteScheduler,
  KDPM2DiscreteScheduler,
  KDPM2AncestralDiscreteScheduler,
  DPMSolverSDEScheduler,
]) {
  test(`${Class.className} finds the image of a perfect network`, () => {
    using run = Class.fromConfig(model).start({ numInferenceSteps: 6 });
    close(
      denoise(run, (x, sigma) => (x - 0.7) / sigma),
      0.7,
      1e-6,
    );
    using velocity = Class.fromConfig(model, { predictionType: 'v_prediction' }).start({
      numInferenceSteps: 6,
    });
    // v = (x/√(σ² + 1) − √(σ² + 1) x0)/σ
    const v = (x: number, sigma: number) => {
      const norm = Math.sqrt(sigma ** 2 + 1);
      return (x / norm - norm * 0.7) / sigma;
    };
    close(denoise(velocity, v), 0.7, 1e-6);
  });
}

test('two evaluations a step: the timesteps of the second ones stand between', () => {
  const options = { numInferenceSteps: 3 };
  const timesteps = (Class: { fromConfig: typeof HeunDiscreteScheduler.fromConfig }) =>
    Class.fromConfig(model).start(options);
  const heun = timesteps(HeunDiscreteScheduler);
  assert.deepEqual(heun.timesteps, [999, 499.5, 499.5, 0, 0]);
  assert.equal(heun.order, 2);
  assert.equal(heun.sigmas.length, 6);
  for (const Class of [KDPM2DiscreteScheduler, DPMSolverSDEScheduler]) {
    const run = Class.fromConfig(model).start(options);
    assert.equal(run.timesteps.length, 5);
    assert.ok((run.timesteps[1] ?? 0) < 999 && (run.timesteps[1] ?? 0) > 499.5);
  }
});

test('strength skips whole steps of two evaluations', () => {
  const start = (strength?: number) =>
    KDPM2DiscreteScheduler.fromConfig(model).start({ numInferenceSteps: 10, strength });
  const cut = start(0.3);
  assert.deepEqual(cut.timesteps, start().timesteps.slice(14));
  assert.equal(cut.numInferenceSteps, 3);
});

test('custom timesteps of Heun count twice each, and strength says when nothing is left', () => {
  const scheduler = HeunDiscreteScheduler.fromConfig(model);
  const timesteps = [900, 600, 300, 100];
  assert.equal(scheduler.start({ timesteps, strength: 1 }).timesteps.length, 7);
  // Of 7, as diffusers counts them, 4 are kept and 3 · 2 timesteps skipped.
  assert.deepEqual(scheduler.start({ timesteps, strength: 0.6 }).timesteps, [100]);
  assert.throws(() => scheduler.start({ timesteps, strength: 0.5 }), {
    ...invalid,
    message: /at least 0\.5715 for strength/,
  });
  scheduler.start({ timesteps, strength: 0.5715 }).dispose();
  const karras = HeunDiscreteScheduler.fromConfig(model, { useKarrasSigmas: true });
  assert.throws(() => karras.start({ timesteps }), { ...invalid, message: /useKarrasSigmas/ });
});

test('what a class cannot predict is refused before anything runs', () => {
  const cases = [
    [KDPM2DiscreteScheduler, 'sample'],
    [KDPM2AncestralDiscreteScheduler, 'sample'],
    [DPMSolverSDEScheduler, 'sample'],
    [HeunDiscreteScheduler, 'flow_prediction'],
    [LMSDiscreteScheduler, 'flow_prediction'],
  ] as const;
  for (const [Class, predictionType] of cases) {
    const scheduler = Class.fromConfig(model, { predictionType });
    assert.throws(() => scheduler.start({ numInferenceSteps: 4 }), {
      ...invalid,
      message: /for predictionType/,
    });
    const two = { useKarrasSigmas: true, useBetaSigmas: true };
    assert.throws(() => Class.fromConfig(model, two), invalid);
  }
});

test('sigma ends of another class bound the formulas, but not the Karras sigmas of LMS and SDE', () => {
  const ends = { sigma_min: 0.5, sigma_max: 6, use_karras_sigmas: true };
  for (const [Class, taken] of [
    [HeunDiscreteScheduler, true],
    [KDPM2DiscreteScheduler, true],
    [LMSDiscreteScheduler, false],
    [DPMSolverSDEScheduler, false],
  ] as const) {
    const { sigmas } = Class.fromConfig({ ...model, ...ends }).start({ numInferenceSteps: 4 });
    assert.equal(Math.abs((sigmas[0] ?? 0) - 6) < 1e-5, taken, Class.className);
  }
});

test('rescaled betas of another class do not reach a class without that field', () => {
  const plain = LMSDiscreteScheduler.fromConfig(model).start({ numInferenceSteps: 4 });
  const rescaled = LMSDiscreteScheduler.fromConfig({ ...model, rescale_betas_zero_snr: true });
  assert.deepEqual(rescaled.start({ numInferenceSteps: 4 }).sigmas, plain.sigmas);
});

test('an ancestral descent splits the variance, to float32', () => {
  const { midpoint, sigmaDown, sigmaUp } = ancestralDescent(5, 2);
  close(sigmaUp ** 2 + sigmaDown ** 2, 4, 1e-6);
  close(sigmaDown, 4 / 5, 1e-6);
  close(midpoint, 2, 1e-6);
  assert.deepEqual(ancestralDescent(5, 0), { sigmaUp: 0, sigmaDown: 0, midpoint: 0 });
});

test('an ancestral descent too deep for float32 goes on where diffusers has no number left', () => {
  const { midpoint, sigmaDown } = ancestralDescent(20000, 0.006);
  close(sigmaDown, 0.006 ** 2 / 20000);
  close(midpoint, 0.006, 1e-6);
});

/** Mean product of two lists. */
const covariance = (a: Float32Array, b: Float32Array): number =>
  a.reduce((sum, value, i) => sum + value * (b[i] ?? 0), 0) / a.length;

test('the noise of an SDE step is a Brownian path through its midpoint', () => {
  const count = 40_000;
  using zero = Tensor.fromArray(new Float32Array(count), [1, count]);
  using run = DPMSolverSDEScheduler.fromConfig(model).start({ numInferenceSteps: 4 });
  const [sigma = 0, sigmaNext = 0] = run.sigmas;
  const generator = new Generator().manualSeed(5);
  // A predicted noise of zero keeps a sample of zero; what is left is the step's own noise.
  const draw = (i: number) => {
    using next = run.step(zero, run.timesteps[i] ?? 0, zero, { generator });
    return Float32Array.from(next.data as Float32Array);
  };
  const [first, second] = [draw(0), draw(1)];
  const middle = Math.sqrt(sigma * sigmaNext);
  const up = (to: number) => to * Math.sqrt(1 - (to / sigma) ** 2);
  // Five standard errors of a variance of this many draws.
  const limit = 5 * Math.sqrt(2 / count);
  close(covariance(first, first) / up(middle) ** 2, 1, limit);
  close(covariance(second, second) / up(sigmaNext) ** 2, 1, limit);
  const shared = Math.sqrt((sigma - middle) / (sigma - sigmaNext));
  close(covariance(first, second) / (up(middle) * up(sigmaNext)), shared, limit);
  // The next step's noise has nothing to do with it.
  close(covariance(draw(2), second) / up(sigmaNext) ** 2, 0, limit);
});

test('the shares of the halves make up a whole, even of a step of no length', () => {
  for (const [sigma, next] of [
    [5, 2],
    [1, 0.999],
    [2, 2],
  ] as const) {
    const { firstHalf, secondHalf } = brownianShares(sigma, next);
    close(firstHalf ** 2 + secondHalf ** 2, 1);
  }
});

test('a noise sampler seed decides alone what noise an SDE run adds', () => {
  const step = (seed: number, config: object = {}) => {
    using sample = Tensor.fromArray(Float32Array.of(1, 2), [1, 2]);
    using run = DPMSolverSDEScheduler.fromConfig({ ...model, ...config }).start({
      numInferenceSteps: 4,
    });
    const generator = new Generator().manualSeed(seed);
    using next = run.step(sample, run.timesteps[0] ?? 0, sample, { generator });
    return [...(next.data as Float32Array)];
  };
  assert.notDeepEqual(step(1), step(2));
  assert.deepEqual(step(1, { noise_sampler_seed: 9 }), step(2, { noise_sampler_seed: 9 }));
  assert.deepEqual(step(1, { noise_sampler_seed: 9 }), step(9));
  assert.throws(() => step(1, { noise_sampler_seed: 0.5 }), {
    ...invalid,
    message: /a whole number for noiseSamplerSeed/,
  });
});
