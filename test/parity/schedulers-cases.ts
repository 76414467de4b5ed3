/** Random scheduler configurations for the comparison with diffusers. */

import type { Case } from '../golden/schedulers/run-case.js';
import type { Draw } from './schedulers-draw.js';

export type Config = Record<string, unknown>;
/** What belongs to a configuration besides its fields. */
type Changes = Pick<Case, 'step' | 'extraChannels'> & { mu?: number };

const BETAS: readonly (readonly [number, number])[] = [
  [0.00085, 0.012],
  [0.0001, 0.02],
  [0.001, 0.03],
];
const VIA = [
  'PNDMScheduler',
  'DDIMScheduler',
  'EulerDiscreteScheduler',
  'DPMSolverMultistepScheduler',
];

function common(draw: Draw): Config {
  const [betaStart, betaEnd] = draw.pick(BETAS);
  const config: Config = {
    beta_start: betaStart,
    beta_end: betaEnd,
    beta_schedule: draw.pick(['linear', 'scaled_linear', 'scaled_linear', 'squaredcos_cap_v2']),
    steps_offset: draw.pick([0, 1]),
  };
  if (draw.chance(0.7)) config.timestep_spacing = draw.pick(['linspace', 'leading', 'trailing']);
  if (draw.chance(0.1)) config.num_train_timesteps = draw.pick([100, 500, 1024]);
  if (draw.chance(0.08)) {
    config.num_train_timesteps = 60;
    config.trained_betas = Array.from({ length: 60 }, (_, i) => 0.001 + (0.05 * i) / 59);
  }
  return config;
}

function formula(draw: Draw, config: Config): void {
  if (draw.chance(0.45)) {
    config[draw.pick(['use_karras_sigmas', 'use_exponential_sigmas', 'use_beta_sigmas'])] = true;
  }
  if (draw.chance(0.03)) Object.assign(config, { use_karras_sigmas: true, use_beta_sigmas: true });
}

const classConfigs: Record<string, (draw: Draw, config: Config) => Changes> = {
  PNDMScheduler(draw, config) {
    config.skip_prk_steps = draw.chance(0.7);
    if (draw.chance(0.5)) config.set_alpha_to_one = draw.chance(0.5);
    if (draw.chance(0.5)) config.prediction_type = draw.pick(['epsilon', 'v_prediction']);
    return {};
  },
  DDIMScheduler(draw, config) {
    if (draw.chance(0.7)) config.clip_sample = draw.chance(0.3);
    if (draw.chance(0.3)) config.clip_sample_range = draw.between(0.5, 3);
    if (draw.chance(0.5)) config.set_alpha_to_one = draw.chance(0.5);
    config.prediction_type = draw.pick(['epsilon', 'sample', 'v_prediction']);
    if (draw.chance(0.3)) {
      config.thresholding = true;
      config.dynamic_thresholding_ratio = draw.between(0.5, 1);
      config.sample_max_value = draw.between(0.8, 4);
    }
    // Without signal the noise tells nothing about the image: infinite in diffusers as well.
    if (config.prediction_type !== 'epsilon') config.rescale_betas_zero_snr = draw.chance(0.3);
    const eta = draw.pick([0, 0, 0.3, 1]);
    return { step: { eta, useClippedModelOutput: draw.chance(0.3) } };
  },
  EulerDiscreteScheduler(draw, config) {
    formula(draw, config);
    config.prediction_type = draw.pick([
      'epsilon',
      'epsilon',
      'sample',
      'v_prediction',
      'original_sample',
    ]);
    if (draw.chance(0.3)) config.interpolation_type = draw.pick(['linear', 'log_linear']);
    if (draw.chance(0.2)) config.timestep_type = draw.pick(['discrete', 'continuous']);
    if (draw.chance(0.3)) config.final_sigmas_type = draw.pick(['zero', 'sigma_min']);
    if (draw.chance(0.2)) config.sigma_min = draw.between(0.01, 0.1);
    if (draw.chance(0.2)) config.sigma_max = draw.between(5, 20);
    config.rescale_betas_zero_snr = draw.chance(0.2);
    if (draw.chance(0.8)) return {};
    const step = { sChurn: draw.between(0, 30), sTmin: 0.1, sTmax: 10, sNoise: 1.01 };
    return { step };
  },
  EulerAncestralDiscreteScheduler(draw, config) {
    config.prediction_type = draw.pick(['epsilon', 'v_prediction']);
    config.rescale_betas_zero_snr = draw.chance(0.2);
    return {};
  },
  DPMSolverMultistepScheduler(draw, config) {
    solver(draw, config);
    if (draw.chance(0.05)) config.solver_order = 4;
    if (draw.chance(0.1)) config.use_lu_lambdas = true;
    if (draw.chance(0.3)) config.euler_at_final = draw.chance(0.5);
    config.rescale_betas_zero_snr = draw.chance(0.15);
    return dpmSolver(draw, config, [
      'dpmsolver++',
      'dpmsolver++',
      'sde-dpmsolver++',
      'dpmsolver',
      'sde-dpmsolver',
      'deis',
    ]);
  },
  DPMSolverSinglestepScheduler(draw, config) {
    solver(draw, config);
    const algorithms = ['dpmsolver++', 'dpmsolver++', 'sde-dpmsolver++', 'dpmsolver', 'deis'];
    const changes = dpmSolver(draw, config, algorithms);
    // diffusers fails with shapes that do not fit.
    if (config.algorithm_type === 'dpmsolver') config.thresholding = false;
    return changes;
  },
  DEISMultistepScheduler(draw, config) {
    solver(draw, config);
    if (draw.chance(0.05)) config.solver_order = 4;
    config.algorithm_type = draw.pick(['deis', 'deis', 'dpmsolver', 'dpmsolver++']);
    config.solver_type = draw.pick(['logrho', 'midpoint', 'heun', 'bh1', 'bh2']);
    return {};
  },
  UniPCMultistepScheduler(draw, config) {
    solver(draw, config);
    config.solver_type = draw.pick(['bh1', 'bh2', 'bh2', 'midpoint', 'logrho']);
    if (draw.chance(0.1)) config.solver_order = draw.pick([4, 5]);
    if (draw.chance(0.3)) config.predict_x0 = false;
    if (config.predict_x0 === false && config.prediction_type === 'flow_prediction') {
      config.prediction_type = draw.pick(['epsilon', 'flow_prediction']);
    }
    if (draw.chance(0.3)) config.disable_corrector = draw.pick([[0], [0, 1, 2], [3], []]);
    const needsEnd = config.predict_x0 === false || config.lower_order_final === false;
    const ends = needsEnd ? ['sigma_min'] : ['zero', 'zero', 'sigma_min'];
    config.final_sigmas_type = draw.pick(ends);
    config.rescale_betas_zero_snr = draw.chance(0.15);
    if (draw.chance(0.2)) config.sigma_min = draw.between(0.01, 0.1);
    if (draw.chance(0.2)) config.sigma_max = draw.between(5, 20);
    if (!config.use_flow_sigmas) return {};
    if (draw.chance(0.3)) config.shift_terminal = draw.between(0.01, 0.2);
    if (draw.chance(0.5)) return {};
    Object.assign(config, { use_dynamic_shifting: true });
    if (draw.chance(0.5)) config.time_shift_type = draw.pick(['exponential', 'linear']);
    return { mu: draw.between(0.3, 1.5) };
  },
  LCMScheduler(draw, config) {
    consistency(draw, config);
    if (draw.chance(0.3)) config.clip_sample = true;
    if (draw.chance(0.3)) config.clip_sample_range = draw.between(0.5, 3);
    if (draw.chance(0.4)) config.timestep_scaling = draw.between(0.01, 20);
    threshold(draw, config);
    return {};
  },
  TCDScheduler(draw, config) {
    consistency(draw, config);
    if (draw.chance(0.2)) return {};
    return { step: { eta: draw.pick([0, 0.3, 1, draw.between(0, 1)]) } };
  },
};

/** Fields of distilled models. */
function consistency(draw: Draw, config: Config): void {
  const trained = Number(config.num_train_timesteps ?? 1000);
  if (draw.chance(0.5)) config.original_inference_steps = draw.pick([50, 60, 100, trained]);
  if (draw.chance(0.4)) config.set_alpha_to_one = draw.chance(0.5);
  config.prediction_type = draw.pick(['epsilon', 'sample', 'v_prediction']);
  // Without signal the noise tells nothing about the image: infinite in diffusers as well.
  if (config.prediction_type !== 'epsilon') config.rescale_betas_zero_snr = draw.chance(0.3);
}

/** Fields of DPM-Solver, DEIS and UniPC. */
function solver(draw: Draw, config: Config): void {
  formula(draw, config);
  if (draw.chance(0.15)) config.use_flow_sigmas = true;
  if (config.use_flow_sigmas && draw.chance(0.5)) config.flow_shift = draw.between(0.5, 4);
  config.solver_order = draw.pick([1, 2, 2, 3]);
  config.prediction_type = draw.pick([
    'epsilon',
    'epsilon',
    'sample',
    'v_prediction',
    'flow_prediction',
  ]);
  if (draw.chance(0.3)) config.lower_order_final = draw.chance(0.5);
  threshold(draw, config);
}

/** Fields of both DPM-Solvers. */
function dpmSolver(draw: Draw, config: Config, algorithms: readonly string[]): Changes {
  config.algorithm_type = draw.pick(algorithms);
  config.solver_type = draw.pick(['midpoint', 'heun', 'logrho', 'bh2']);
  // What the algorithm lacks, now and then.
  const solvesForNoise = !String(config.algorithm_type).endsWith('++');
  if (solvesForNoise && config.prediction_type === 'flow_prediction' && draw.chance(0.9)) {
    config.prediction_type = 'v_prediction';
  }
  if (config.algorithm_type === 'sde-dpmsolver' && draw.chance(0.9)) config.solver_order = 2;
  config.final_sigmas_type =
    solvesForNoise && draw.chance(0.95) ? 'sigma_min' : draw.pick(['zero', 'zero', 'sigma_min']);
  if (draw.chance(0.25)) config.lambda_min_clipped = draw.pick([-5.1, -2, null]);
  if (draw.chance(0.9)) return {};
  config.variance_type = draw.pick(['learned', 'learned_range']);
  return config.prediction_type === 'epsilon' ? { extraChannels: 3 } : {};
}

function threshold(draw: Draw, config: Config): void {
  if (draw.chance(0.8)) return;
  config.thresholding = true;
  config.dynamic_thresholding_ratio = draw.between(0.5, 1);
  config.sample_max_value = draw.between(0.8, 4);
}

/** A configuration of a class. */
export function randomConfig(className: string, draw: Draw): Omit<Case, 'start'> & { mu?: number } {
  const config = common(draw);
  const extra = classConfigs[className]?.(draw, config) ?? {};
  const via = draw.chance(0.15) ? { via: draw.pick(VIA) } : {};
  return { className, config, ...extra, ...via };
}
