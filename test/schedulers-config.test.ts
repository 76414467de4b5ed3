import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import {
  DDIMScheduler,
  DEISMultistepScheduler,
  DPMSolverMultistepScheduler,
  DPMSolverSinglestepScheduler,
  EulerAncestralDiscreteScheduler,
  EulerDiscreteScheduler,
  PNDMScheduler,
  schedulerClass,
  schedulerFromConfig,
  schedulerNames,
  Tensor,
  UniPCMultistepScheduler,
} from '../lib/index.js';

const invalid = { name: 'InvalidArgumentError', code: 'ERR_INVALID_ARGUMENT' };

const stableDiffusion = {
  _class_name: 'PNDMScheduler',
  _diffusers_version: '0.6.0',
  beta_start: 0.00085,
  beta_end: 0.012,
  beta_schedule: 'scaled_linear',
  skip_prk_steps: true,
  set_alpha_to_one: false,
  steps_offset: 1,
  clip_sample: false,
  trained_betas: null,
};

const camel = (key: string) => key.replace(/(?<=[^_])_([a-z])/g, (_, c: string) => c.toUpperCase());

test('configurations pass from class to class as in diffusers', () => {
  const golden = JSON.parse(
    readFileSync(new URL('./golden/schedulers/configurations.json', import.meta.url), 'utf8'),
  ) as {
    from: string;
    to: string;
    given: Record<string, unknown>;
    config: Record<string, unknown>;
    unset: string[];
  }[];
  assert.equal(golden.length, schedulerNames.length ** 2);
  for (const { from, to, given, config, unset } of golden) {
    const start = schedulerClass(from).fromConfig({ ...given, _class_name: from });
    const changes = { timestepSpacing: 'trailing' };
    const end = from === to ? start : schedulerClass(to).fromConfig(start.config, changes);
    const { _className, _useDefaultValues, ...own } = end.config;
    const ours: Record<string, unknown> = { ...own };
    const expected = Object.fromEntries(
      Object.entries(config).map(([key, value]) => [camel(key), value]),
    );
    delete expected._className;
    // Infinity is null in the golden file.
    if (ours.lambdaMinClipped === Number.NEGATIVE_INFINITY) ours.lambdaMinClipped = null;
    assert.deepEqual(ours, expected, `${from} to ${to}`);
    assert.equal(_className, to);
    assert.deepEqual([...(_useDefaultValues as string[])].sort(), unset.map(camel).sort());
  }
});

test('a default of one class does not become a setting of the next', () => {
  const pndm = PNDMScheduler.fromConfig(stableDiffusion);
  assert.equal(pndm.config.timestepSpacing, 'leading');
  const euler = EulerDiscreteScheduler.fromConfig(pndm.config);
  assert.equal(euler.config.timestepSpacing, 'linspace');
  const again = PNDMScheduler.fromConfig(euler.config);
  assert.equal(again.config.timestepSpacing, 'leading');
  assert.equal(again.config.skipPrkSteps, true);
});

test('camelCase and snake_case keys mean the same, in configuration and overrides', () => {
  const snake = EulerDiscreteScheduler.fromConfig(stableDiffusion, { use_karras_sigmas: true });
  const camelCased = Object.fromEntries(
    Object.entries(stableDiffusion).map(([key, value]) => [camel(key), value]),
  );
  const other = EulerDiscreteScheduler.fromConfig(camelCased, { useKarrasSigmas: true });
  assert.deepEqual(snake.config, other.config);
  assert.equal(snake.config.useKarrasSigmas, true);
});

test('fields of no known class are kept and change nothing', () => {
  const scheduler = DDIMScheduler.fromConfig({ some_field: [1], _diffusers_version: '0.1' });
  assert.deepEqual(scheduler.config.someField, [1]);
  assert.equal(scheduler.config._diffusersVersion, '0.1');
});

test('configurations are frozen and do not share arrays with their source', () => {
  const trainedBetas = [0.1, 0.2, 0.3];
  const { config } = DDIMScheduler.fromConfig({ trained_betas: trainedBetas });
  trainedBetas[0] = 9;
  assert.deepEqual(config.trainedBetas, [0.1, 0.2, 0.3]);
  assert.ok(Object.isFrozen(config) && Object.isFrozen(config.trainedBetas));
});

test('a configuration that went through JSON makes the same scheduler', () => {
  const scheduler = DPMSolverMultistepScheduler.fromConfig(stableDiffusion);
  const json = JSON.parse(JSON.stringify(scheduler.config));
  assert.equal(json.lambdaMinClipped, null);
  assert.deepEqual(DPMSolverMultistepScheduler.fromConfig(json).config, scheduler.config);
});

test('solver names of other classes map to the nearest of DPM-Solver', () => {
  const deis = { algorithm_type: 'deis', solver_type: 'logrho' };
  const { config } = DPMSolverMultistepScheduler.fromConfig(deis);
  assert.equal(config.algorithmType, 'dpmsolver++');
  assert.equal(config.solverType, 'midpoint');
});

test('solver names of other classes map to those of DEIS and UniPC', () => {
  for (const algorithm_type of ['dpmsolver', 'dpmsolver++']) {
    for (const solver_type of ['midpoint', 'heun', 'bh1', 'bh2', 'logrho']) {
      const { config } = DEISMultistepScheduler.fromConfig({ algorithm_type, solver_type });
      assert.deepEqual([config.algorithmType, config.solverType], ['deis', 'logrho']);
    }
  }
  for (const solver_type of ['midpoint', 'heun', 'logrho']) {
    assert.equal(UniPCMultistepScheduler.fromConfig({ solver_type }).config.solverType, 'bh2');
  }
  assert.throws(() => DEISMultistepScheduler.fromConfig({ algorithm_type: 'sde-dpmsolver' }), {
    ...invalid,
    message: /deis for algorithmType/,
  });
});

test('fields that a class lacks do not change its numbers, whoever left them there', () => {
  const left = {
    rescale_betas_zero_snr: true,
    lambda_min_clipped: -1,
    use_lu_lambdas: true,
    variance_type: 'learned',
    thresholding: false,
  };
  const without: [string, object][] = [
    ['PNDMScheduler', { skip_prk_steps: true }],
    ['DEISMultistepScheduler', {}],
  ];
  for (const [name, config] of without) {
    const values = [{}, left].map((extra) => {
      const scheduler = schedulerClass(name).fromConfig({
        ...stableDiffusion,
        ...config,
        ...extra,
      });
      using run = scheduler.start({ numInferenceSteps: 5, strength: 1 });
      using one = Tensor.fromArray(Float32Array.of(1), [1, 1]);
      using noisy = run.addNoise(one, one, run.timesteps[0] ?? 0);
      return [run.timesteps, run.sigmas, noisy.data];
    });
    assert.deepEqual(values[1], values[0], name);
  }
});

test('the class of a configuration file is found by name', () => {
  assert.ok(schedulerFromConfig(stableDiffusion) instanceof PNDMScheduler);
  assert.deepEqual([...schedulerNames], [...schedulerNames].sort());
  for (const name of schedulerNames) {
    assert.equal(schedulerFromConfig({ _class_name: name }).className, name);
  }
});

test('an unknown scheduler class is a checkpoint error that names the known ones', () => {
  for (const _class_name of ['FlowMatchEulerDiscreteScheduler', undefined, 3]) {
    assert.throws(() => schedulerFromConfig({ _class_name }), {
      code: 'ERR_CHECKPOINT',
      message: /DDIMScheduler, .*DPMSolverMultistepScheduler, .*PNDMScheduler/,
    });
  }
});

test('values of the wrong kind are refused with the name of the field', () => {
  const wrong: [Record<string, unknown>, RegExp][] = [
    [{ num_train_timesteps: 0 }, /numTrainTimesteps.*0 \(number\)/],
    [{ num_train_timesteps: 10.5 }, /numTrainTimesteps/],
    [{ beta_start: '0.1' }, /a number for betaStart but received "0.1"/],
    [{ beta_schedule: 'exp' }, /linear, scaled_linear, squaredcos_cap_v2 for betaSchedule/],
    [{ clip_sample: 1 }, /true or false for clipSample/],
    [{ trained_betas: ['a'] }, /an array of numbers for trainedBetas/],
    [{ trained_betas: [] }, /trainedBetas/],
    [{ timestep_spacing: 'even' }, /timestepSpacing/],
    [{ prediction_type: 'noise' }, /predictionType/],
  ];
  for (const [config, message] of wrong) {
    assert.throws(() => DDIMScheduler.fromConfig(config), { ...invalid, message });
    assert.throws(() => DDIMScheduler.fromConfig({}, config), { ...invalid, message });
  }
  for (const config of [null, undefined, [], 'PNDMScheduler']) {
    assert.throws(() => DDIMScheduler.fromConfig(config as never), invalid);
  }
});

test('what diffusers refuses to build is refused', () => {
  const two = { use_karras_sigmas: true, use_beta_sigmas: true };
  assert.throws(() => EulerDiscreteScheduler.fromConfig(two), invalid);
  assert.throws(() => DPMSolverMultistepScheduler.fromConfig(two), invalid);
  const noEnd = { algorithm_type: 'dpmsolver', final_sigmas_type: 'zero' };
  for (const solver of [DPMSolverMultistepScheduler, DPMSolverSinglestepScheduler]) {
    assert.throws(() => solver.fromConfig(noEnd), {
      ...invalid,
      message: /sigma_min for finalSigmasType/,
    });
  }
  assert.throws(() => DPMSolverSinglestepScheduler.fromConfig({ solver_order: 4 }), invalid);
  for (const config of [
    { shift_terminal: 0.1 },
    { solver_p: {} },
    { disable_corrector: [0.5] },
    { solver_order: 21 },
  ]) {
    assert.throws(() => UniPCMultistepScheduler.fromConfig(config), invalid);
  }
});

test('a prediction type that a class lacks passes through it, but does not run', () => {
  const pndm = PNDMScheduler.fromConfig({ prediction_type: 'sample' });
  assert.throws(() => pndm.start({ numInferenceSteps: 10 }), {
    ...invalid,
    message: /epsilon or v_prediction for predictionType/,
  });
  DDIMScheduler.fromConfig(pndm.config).start({ numInferenceSteps: 10 }).dispose();
  const ancestral = EulerAncestralDiscreteScheduler.fromConfig(pndm.config);
  assert.throws(() => ancestral.start({ numInferenceSteps: 10 }), invalid);
  const solver = DPMSolverMultistepScheduler.fromConfig({
    algorithm_type: 'sde-dpmsolver',
    final_sigmas_type: 'sigma_min',
    prediction_type: 'flow_prediction',
  });
  assert.throws(() => solver.start({ numInferenceSteps: 10 }), invalid);
});
