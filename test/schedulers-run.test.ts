import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  DDIMScheduler,
  DPMSolverMultistepScheduler,
  EulerAncestralDiscreteScheduler,
  EulerDiscreteScheduler,
  Generator,
  memoryStats,
  PNDMScheduler,
  type StartOptions,
  schedulerClass,
  schedulerNames,
  Tensor,
} from '../lib/index.js';

const invalid = { name: 'InvalidArgumentError', code: 'ERR_INVALID_ARGUMENT' };
const model = { beta_start: 0.00085, beta_end: 0.012, beta_schedule: 'scaled_linear' };
const cosine = { beta_schedule: 'squaredcos_cap_v2' };
/** UnCLIP knows one schedule only. */
const modelOf = (className: string) => (className === 'UnCLIPScheduler' ? cosine : model);

function tensor(values: readonly number[]): Tensor {
  return Tensor.fromArray(Float32Array.from(values), [values.length, 1]);
}

const start = (className: string, options: StartOptions, config: object = {}) =>
  schedulerClass(className)
    .fromConfig({ ...modelOf(className), ...config })
    .start(options);

for (const className of schedulerNames) {
  test(`${className}: a run gives every tensor back, disposed halfway or at the end`, () => {
    const before = memoryStats().tensors;
    const variants = [
      {},
      { solver_order: 3, disable_corrector: [0] },
      { thresholding: true },
      { skip_prk_steps: true },
      { thresholding: true, algorithm_type: 'dpmsolver', final_sigmas_type: 'sigma_min' },
      ...(className.startsWith('DPMSolver')
        ? [{ solver_order: 3, algorithm_type: 'sde-dpmsolver++' }]
        : []),
    ];
    for (const config of variants) {
      for (const steps of [3, 20]) {
        using run = start(className, { numInferenceSteps: 20 }, config);
        let sample = tensor([1, -2]);
        for (const t of run.timesteps.slice(0, steps)) {
          using input = run.scaleModelInput(sample, t);
          const next = run.step(input, t, sample, { eta: 1, sChurn: 5 });
          sample.dispose();
          sample = next;
        }
        using noisy = run.addNoise(sample, sample, run.timesteps[1] ?? 0);
        assert.notEqual(noisy, sample);
        sample.dispose();
      }
    }
    assert.equal(memoryStats().tensors, before);
  });

  test(`${className}: inputs stay as they are and belong to the caller`, () => {
    using run = start(className, { numInferenceSteps: 10 });
    using sample = tensor([1, -2]);
    using output = tensor([0.5, 0.25]);
    const [t = 0] = run.timesteps;
    using input = run.scaleModelInput(sample, t);
    input.dispose();
    run.step(output, t, sample).dispose();
    assert.deepEqual([...(sample.data as Float32Array)], [1, -2]);
    assert.deepEqual([...(output.data as Float32Array)], [0.5, 0.25]);
  });

  test(`${className}: a disposed run refuses to step`, () => {
    const run = start(className, { numInferenceSteps: 10 });
    run.dispose();
    run.dispose();
    using sample = tensor([1]);
    assert.throws(() => run.step(sample, run.timesteps[0] ?? 0, sample), { code: 'ERR_DISPOSED' });
  });

  test(`${className}: two runs of one scheduler do not disturb each other`, () => {
    const scheduler = schedulerClass(className).fromConfig(modelOf(className));
    const results = [0, 1].map((order) => {
      using first = scheduler.start({ numInferenceSteps: 5 });
      using second = scheduler.start({ numInferenceSteps: 5 });
      const runs = order === 0 ? [first] : [first, second];
      const generators = runs.map(() => new Generator().manualSeed(3));
      const samples = runs.map(() => tensor([1, -2]));
      for (const t of first.timesteps) {
        for (const [i, run] of runs.entries()) {
          const sample = samples[i] ?? tensor([]);
          using input = run.scaleModelInput(sample, t);
          const next = run.step(input, t, sample, { generator: generators[i], eta: 0.5 });
          sample.dispose();
          samples[i] = next;
        }
      }
      return samples.map((sample) => [...(sample.data as Float32Array)]);
    });
    assert.deepEqual(results[1], [results[0]?.[0], results[0]?.[0]]);
  });

  test(`${className}: step counts, strengths and schedules are checked before anything runs`, () => {
    const wrong: unknown[] = [
      {},
      undefined,
      { numInferenceSteps: 0 },
      { numInferenceSteps: 2.5 },
      { numInferenceSteps: '10' },
      { numInferenceSteps: Number.NaN },
      { numInferenceSteps: 10, timesteps: [1] },
      { timesteps: [5, 1], sigmas: [1, 0] },
      { timesteps: [] },
      { timesteps: [Number.NaN] },
      { sigmas: [1] },
      { numInferenceSteps: 10, strength: 1.4 },
      { numInferenceSteps: 10, strength: -0.1 },
      { numInferenceSteps: 10, strength: '0.5' },
      { numInferenceSteps: 10, strength: Number.NaN },
      { numInferenceSteps: 10, beginIndex: -1 },
      { numInferenceSteps: 10, beginIndex: 99 },
    ];
    for (const options of wrong) {
      assert.throws(
        () => start(className, options as StartOptions),
        invalid,
        JSON.stringify(options),
      );
    }
  });

  test(`${className}: custom schedules are taken exactly where the class says so`, () => {
    const { customSchedules } = schedulerClass(className);
    const schedules = { timesteps: [900, 500, 100], sigmas: [10, 3, 1, 0] };
    // UniPC takes sigmas as positions of a flow.
    const config = { use_flow_sigmas: className === 'UniPCMultistepScheduler' };
    const own = config.use_flow_sigmas ? { ...schedules, sigmas: [1, 0.6, 0.1] } : schedules;
    for (const [kind, taken] of Object.entries(customSchedules) as [
      'timesteps' | 'sigmas',
      boolean,
    ][]) {
      const attempt = () => start(className, { [kind]: own[kind] }, config);
      if (taken) {
        const { order, timesteps } = attempt();
        assert.equal(timesteps.length, 2 * order + 1);
      } else assert.throws(attempt, { ...invalid, message: new RegExp(`no custom ${kind}`) });
    }
  });
}

test('strength keeps the last steps and truncates the product as it stands', () => {
  const cut = (numInferenceSteps: number, strength: number) =>
    start('DDIMScheduler', { numInferenceSteps, strength }).timesteps.length;
  assert.deepEqual([cut(50, 0.8), cut(50, 0.58), cut(50, 1), cut(10, 0.3)], [40, 28, 50, 3]);
});

test('a strength that leaves no step is refused with the smallest that does', () => {
  const attempt = () => start('DDIMScheduler', { numInferenceSteps: 40, strength: 0.02 });
  assert.throws(attempt, {
    ...invalid,
    message: /at least 0\.025 for strength but received 0\.02/,
  });
  start('DDIMScheduler', { numInferenceSteps: 40, strength: 0.025 });
});

test('PNDM runs one step more than asked, so even no strength leaves one', () => {
  const options = { numInferenceSteps: 10, strength: 0 };
  const run = start('PNDMScheduler', options, { skip_prk_steps: true, steps_offset: 1 });
  assert.deepEqual(run.timesteps, [1]);
  assert.equal(
    start('PNDMScheduler', { numInferenceSteps: 10 }, { skip_prk_steps: true }).timesteps.length,
    11,
  );
});

test('sigmas stay beside the timesteps that strength leaves', () => {
  const full = start('EulerDiscreteScheduler', { numInferenceSteps: 10 });
  const cut = start('EulerDiscreteScheduler', { numInferenceSteps: 10, strength: 0.5 });
  assert.equal(full.sigmas.length, 11);
  assert.deepEqual(cut.sigmas, full.sigmas.slice(5));
  assert.deepEqual(cut.timesteps, full.timesteps.slice(5));
  assert.equal(cut.initNoiseSigma, full.initNoiseSigma);
});

test('beginIndex skips timesteps as strength does', () => {
  const byStrength = start('DPMSolverMultistepScheduler', { numInferenceSteps: 10, strength: 0.7 });
  const byIndex = start('DPMSolverMultistepScheduler', { numInferenceSteps: 10, beginIndex: 3 });
  assert.deepEqual(byIndex.timesteps, byStrength.timesteps);
  assert.deepEqual(byIndex.sigmas, byStrength.sigmas);
  assert.equal(byIndex.numInferenceSteps, 7);
});

test('timesteps of Euler may be fractions', () => {
  const { timesteps } = start('EulerDiscreteScheduler', { numInferenceSteps: 3 });
  assert.deepEqual(timesteps, [999, 499.5, 0]);
});

test('a schedule that goes on after its end is refused', () => {
  using run = start('EulerDiscreteScheduler', { numInferenceSteps: 1 });
  using sample = tensor([1]);
  run.step(sample, 0, sample).dispose();
  assert.throws(() => run.step(sample, 0, sample), { ...invalid, message: /at most 1 steps/ });
});

test('a first timestep that occurs twice starts at the first of both', () => {
  using run = start('EulerDiscreteScheduler', { timesteps: [900, 900, 100] });
  let sample = tensor([1]);
  for (const t of run.timesteps) {
    const next = run.step(sample, t, sample);
    sample.dispose();
    sample = next;
  }
  sample.dispose();
});

test('starting in the middle at a repeated timestep starts at the second of both', () => {
  using run = start('EulerDiscreteScheduler', { timesteps: [900, 500, 500, 100] });
  using sample = tensor([1]);
  using next = run.step(sample, 500, sample);
  // From the first of both the step would have no length.
  assert.notEqual((next.data as Float32Array)[0], 1);
});

test('an unlisted timestep is an error for Euler and the last one for DPM-Solver', () => {
  using euler = start('EulerDiscreteScheduler', { numInferenceSteps: 10 });
  using solver = start('DPMSolverMultistepScheduler', { numInferenceSteps: 10 });
  using sample = tensor([1]);
  assert.throws(() => euler.addNoise(sample, sample, 12.5), invalid);
  using last = solver.addNoise(sample, sample, solver.timesteps[9] ?? 0);
  using unlisted = solver.addNoise(sample, sample, 12.5);
  assert.deepEqual(unlisted.data, last.data);
});

test('timesteps beyond the training ones are refused at the start', () => {
  const options = { numInferenceSteps: 1000 };
  assert.throws(() => start('DDIMScheduler', options, { steps_offset: 1 }), {
    ...invalid,
    message: /whole number below 1000 for timestep but received 1000/,
  });
  assert.throws(() => start('DDIMScheduler', { numInferenceSteps: 1001 }), {
    ...invalid,
    message: /at most 1000 for numInferenceSteps/,
  });
});

test('Runge-Kutta needs four steps, and says how to do without', () => {
  assert.throws(() => start('PNDMScheduler', { numInferenceSteps: 3 }), {
    ...invalid,
    message: /at least 4 .*skipPrkSteps/,
  });
  assert.equal(start('PNDMScheduler', { numInferenceSteps: 4 }).timesteps.length, 13);
});

test('custom timesteps do not go with sigmas from a formula', () => {
  const timesteps = [900, 500, 100];
  const clashes: [string, object][] = [
    ['EulerDiscreteScheduler', { use_karras_sigmas: true }],
    ['EulerDiscreteScheduler', { use_exponential_sigmas: true }],
    ['EulerDiscreteScheduler', { use_beta_sigmas: true }],
    ['EulerDiscreteScheduler', { timestep_type: 'continuous', prediction_type: 'v_prediction' }],
    ['DPMSolverMultistepScheduler', { use_karras_sigmas: true }],
    ['DPMSolverMultistepScheduler', { use_lu_lambdas: true }],
    ['DPMSolverMultistepScheduler', { use_flow_sigmas: true }],
    ['DPMSolverSinglestepScheduler', { use_karras_sigmas: true }],
    ['DPMSolverSinglestepScheduler', { use_flow_sigmas: true }],
  ];
  for (const [className, config] of clashes) {
    assert.throws(() => start(className, { timesteps }, config), {
      ...invalid,
      message: /Custom timesteps/,
    });
  }
});

test('custom sigmas of UniPC are positions of a flow and nothing else', () => {
  const sigmas = [1, 0.5, 0.1];
  for (const config of [{}, { use_flow_sigmas: true, use_karras_sigmas: true }]) {
    const attempt = () => start('UniPCMultistepScheduler', { sigmas }, config);
    assert.throws(attempt, { ...invalid, message: /ustom sigmas/ });
  }
});

test('UniPC refuses what would end in infinities', () => {
  const attempts: [object, StartOptions][] = [
    [{ predict_x0: false }, { numInferenceSteps: 5 }],
    [{ lower_order_final: false }, { numInferenceSteps: 5 }],
    [{ use_flow_sigmas: true, shift_terminal: 0.1 }, { numInferenceSteps: 1 }],
    [{ use_flow_sigmas: true, use_dynamic_shifting: true }, { numInferenceSteps: 5 }],
  ];
  for (const [config, options] of attempts) {
    assert.throws(() => start('UniPCMultistepScheduler', options, config), invalid);
  }
  const fine = { lower_order_final: false, final_sigmas_type: 'sigma_min', predict_x0: false };
  start('UniPCMultistepScheduler', { numInferenceSteps: 5 }, fine).dispose();
});

test('consistency models run at most the timesteps that they were distilled at', () => {
  for (const name of ['LCMScheduler', 'TCDScheduler']) {
    const refused: [object, StartOptions][] = [
      [{}, { numInferenceSteps: 51 }],
      [{ original_inference_steps: 1001 }, { numInferenceSteps: 4 }],
      [{}, { timesteps: [100, 900] }],
      [{}, { timesteps: [5.5, 5.2] }],
      [{}, { timesteps: [1000, 5] }],
    ];
    for (const [config, options] of refused) {
      assert.throws(() => start(name, options, config), invalid, JSON.stringify(options));
    }
    const { timesteps } = start(name, { numInferenceSteps: 4 });
    assert.deepEqual(timesteps, [999, 759, 499, 259]);
    using run = start(name, { numInferenceSteps: 4 });
    using sample = tensor([1]);
    assert.throws(() => run.step(sample, 998, sample), { ...invalid, message: /timestep/ });
  }
  using run = start('TCDScheduler', { numInferenceSteps: 4 });
  using sample = tensor([1]);
  assert.throws(() => run.step(sample, 999, sample, { eta: 1.5 }), invalid);
});

test('third order of sde-dpmsolver and a stray mu are refused', () => {
  const config = {
    algorithm_type: 'sde-dpmsolver',
    final_sigmas_type: 'sigma_min',
    solver_order: 3,
  };
  assert.throws(
    () => start('DPMSolverMultistepScheduler', { numInferenceSteps: 9 }, config),
    invalid,
  );
  assert.throws(
    () => start('DPMSolverMultistepScheduler', { numInferenceSteps: 9, mu: 1 }),
    invalid,
  );
});

test('one generator per sample draws each sample for itself', () => {
  const config = { ...model, prediction_type: 'epsilon' };
  const scheduler = EulerAncestralDiscreteScheduler.fromConfig(config);
  const step = (values: number[], seeds: number[]) => {
    using run = scheduler.start({ numInferenceSteps: 4 });
    using sample = tensor(values);
    const generator = seeds.map((seed) => new Generator().manualSeed(seed));
    using next = run.step(sample, run.timesteps[0] ?? 0, sample, { generator });
    return [...(next.data as Float32Array)];
  };
  assert.deepEqual(step([1, 2], [5, 6]), [...step([1], [5]), ...step([2], [6])]);
  assert.throws(() => step([1, 2, 3], [5, 6]), { ...invalid, message: /one generator or 3/ });
});

test('given noise is used instead of drawn noise', () => {
  using noise = tensor([0.5, -0.5]);
  using sample = tensor([1, 2]);
  const generator = new Generator().manualSeed(1);
  using ddim = DDIMScheduler.fromConfig(model).start({ numInferenceSteps: 4 });
  const [t = 0] = ddim.timesteps;
  using a = ddim.step(sample, t, sample, { eta: 1, varianceNoise: noise, generator });
  using b = ddim.step(sample, t, sample, { eta: 1, varianceNoise: noise });
  assert.deepEqual(a.data, b.data);
  const sde = DPMSolverMultistepScheduler.fromConfig(model, { algorithmType: 'sde-dpmsolver++' });
  using run = sde.start({ numInferenceSteps: 4 });
  using c = run.step(sample, run.timesteps[0] ?? 0, sample, { varianceNoise: noise, generator });
  assert.equal(c.dtype, 'float32');
  assert.equal(generator.initialSeed, 1n);
  using drawn = run.step(sample, run.timesteps[1] ?? 0, sample, { generator });
  assert.equal(drawn.shape[0], 2);
});

test('half precision comes back in the dtype of the model output', () => {
  for (const dtype of ['float16', 'bfloat16'] as const) {
    for (const className of schedulerNames) {
      using wide = tensor([1, 2]);
      using sample = wide.to({ dtype });
      using run = start(className, { numInferenceSteps: 4, strength: 1 });
      const [t = 0] = run.timesteps;
      using noisy = run.addNoise(sample, sample, t);
      using input = run.scaleModelInput(sample, t);
      using next = run.step(sample, t, sample, { eta: 1 });
      assert.deepEqual([noisy.dtype, input.dtype, next.dtype], [dtype, dtype, dtype], className);
    }
  }
});

test('Euler takes the scaled and keeps the unscaled sample apart', () => {
  using run = EulerDiscreteScheduler.fromConfig(model).start({ numInferenceSteps: 2 });
  using sample = tensor([14.6]);
  const [sigma = 0] = run.sigmas;
  using input = run.scaleModelInput(sample, run.timesteps[0] ?? 0);
  const [scaled = 0] = input.data as Float32Array;
  assert.ok(Math.abs(scaled - 14.6 / Math.sqrt(sigma ** 2 + 1)) < 1e-6);
  assert.equal(PNDMScheduler.customSchedules.timesteps, false);
});
