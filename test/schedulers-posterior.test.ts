import assert from 'node:assert/strict';
import { test } from 'node:test';

import { DDPMScheduler, Generator, memoryStats, Tensor, UnCLIPScheduler } from '../lib/index.js';
import { stepPosterior } from '../lib/schedulers/posterior.js';

const invalid = { name: 'InvalidArgumentError', code: 'ERR_INVALID_ARGUMENT' };

function close(actual: number, expected: number, limit = 1e-12): void {
  const error = Math.abs(actual - expected);
  assert.ok(error <= limit * Math.max(1, Math.abs(expected)), `${actual} is not ${expected}`);
}

const tensor = (values: readonly number[], shape: readonly number[]) =>
  Tensor.fromArray(Float32Array.from(values), shape);

test('the posterior keeps a sample on its way from one noise level to the next', () => {
  const [alphaBar, previous] = [0.3, 0.6];
  const { imageWeight, sampleWeight, variance } = stepPosterior(alphaBar, previous);
  // x_t = √ᾱ x0 + √(1 − ᾱ) ε leads to the mean √ᾱ_prev x0, and to the variance 1 − ᾱ_prev.
  close(imageWeight + sampleWeight * Math.sqrt(alphaBar), Math.sqrt(previous));
  close(sampleWeight ** 2 * (1 - alphaBar) + variance, 1 - previous);
});

test('the posterior of the last step is the predicted image', () => {
  const { imageWeight, sampleWeight } = stepPosterior(0.99, 1);
  close(imageWeight, 1);
  assert.equal(sampleWeight, 0);
});

test('a learned range at its ends is the fixed small and the fixed large variance', () => {
  const step = (variance_type: string, output: Tensor) => {
    using run = DDPMScheduler.fromConfig({ variance_type }).start({ numInferenceSteps: 10 });
    using sample = tensor([0.5, -0.25], [1, 2]);
    const generator = new Generator().manualSeed(3);
    using next = run.step(output, run.timesteps[0] ?? 0, sample, { generator });
    return [...(next.data as Float32Array)];
  };
  using plain = tensor([0.1, -0.2], [1, 2]);
  for (const [end, fixed] of [
    [-1, 'fixed_small'],
    [1, 'fixed_large'],
  ] as const) {
    using output = tensor([0.1, -0.2, end, end], [1, 4]);
    const wanted = step(fixed, plain);
    for (const [i, value] of step('learned_range', output).entries()) {
      close(value, wanted[i] ?? 0, 1e-6);
    }
  }
});

test('a learned variance that the network does not predict is an error that says so', () => {
  const before = memoryStats().tensors;
  for (const [Class, variance_type] of [
    [DDPMScheduler, 'learned'],
    [DDPMScheduler, 'learned_range'],
    [UnCLIPScheduler, 'learned_range'],
  ] as const) {
    using run = Class.fromConfig({ variance_type }).start({ numInferenceSteps: 4 });
    using sample = tensor([1, 2], [1, 2]);
    const [first = 0] = run.timesteps;
    assert.throws(() => run.step(sample, first, sample), {
      ...invalid,
      message: /twice the channels of sample for modelOutput/,
    });
    using both = tensor([1, 2, 0.5, 0.5], [1, 4]);
    run.step(both, first, sample).dispose();
  }
  assert.equal(memoryStats().tensors, before);
});

test('a variance type without a formula passes through a class, but does not run', () => {
  const ddpm = DDPMScheduler.fromConfig({ variance_type: 'fixed_large_log' });
  assert.throws(() => ddpm.start({ numInferenceSteps: 4 }), {
    ...invalid,
    message: /for varianceType but received "fixed_large_log"/,
  });
  const config = { variance_type: 'fixed_large', beta_schedule: 'squaredcos_cap_v2' };
  const prior = UnCLIPScheduler.fromConfig(DDPMScheduler.fromConfig(config).config);
  assert.equal(prior.config.varianceType, 'fixed_large');
  assert.throws(() => prior.start({ numInferenceSteps: 4 }), {
    ...invalid,
    message: /fixed_small_log or learned_range for varianceType/,
  });
});

test('UnCLIP knows the cosine schedule only, and needs two steps', () => {
  assert.throws(() => UnCLIPScheduler.fromConfig({ beta_schedule: 'linear' }), {
    ...invalid,
    message: /squaredcos_cap_v2 for betaSchedule/,
  });
  const scheduler = UnCLIPScheduler.fromConfig({});
  assert.throws(() => scheduler.start({ numInferenceSteps: 1 }), {
    ...invalid,
    message: /at least 2 for numInferenceSteps/,
  });
  assert.deepEqual(scheduler.start({ numInferenceSteps: 2 }).timesteps, [999, 0]);
});

test('UnCLIP ends after its last timestep', () => {
  using run = UnCLIPScheduler.fromConfig({}).start({ numInferenceSteps: 2 });
  using sample = tensor([1, 2], [1, 2]);
  for (const t of run.timesteps) run.step(sample, t, sample).dispose();
  assert.throws(() => run.step(sample, 0, sample), { ...invalid, message: /at most 2 steps/ });
});

test('custom timesteps of DDPM descend, and only they are stepped to', () => {
  const scheduler = DDPMScheduler.fromConfig({});
  assert.throws(() => scheduler.start({ timesteps: [900, 900, 100] }), {
    ...invalid,
    message: /smaller number .* for timesteps\[1\] but received 900/,
  });
  assert.throws(() => scheduler.start({ timesteps: [1000, 100] }), invalid);
  using run = scheduler.start({ timesteps: [900.7, 100] });
  assert.deepEqual(run.timesteps, [900, 100]);
  using sample = tensor([1], [1, 1]);
  assert.throws(() => run.step(sample, 500, sample), {
    ...invalid,
    message: /one of the timesteps of the run/,
  });
});
