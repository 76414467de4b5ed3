/**
 * Fast sampling of diffusion models with the exponential integrator, in its multistep ρAB form with
 * polynomials in ln ρ.
 * https://arxiv.org/abs/2204.13902, section 3.3 and appendix H.3
 */

import type { Tensor } from '../tensor.js';
import type { SchedulerConfig, SchedulerConfigInput, SchedulerOverrides } from './config.js';
import { choice, integer, readConfig, supportedPrediction } from './config.js';
import { History } from './history.js';
import { evaluate, type LinearForm, plus, promote, times } from './linear-form.js';
import { makeAlphasCumprod, makeSigmaTable } from './noise-schedule.js';
import { at } from './numerics.js';
import { checkStepCount, type Scheduler, type StartOptions, skipTimesteps } from './scheduler.js';
import { sigmaFormula } from './sigmas.js';
import { runFlowShift, SOLVER_FIELDS } from './solver-config.js';
import {
  IMAGE_PREDICTION_TYPES,
  imageModel,
  type NoiseLevel,
  noiseFromImage,
  SolverModel,
} from './solver-model.js';
import { SolverRun } from './solver-run.js';
import {
  FEW_STEPS,
  finalLevel,
  PLAIN_SCHEDULE,
  type SolverTables,
  solverSchedule,
} from './solver-schedule.js';
import { TIMESTEP_SPACINGS } from './timesteps.js';

const FIELDS = {
  ...SOLVER_FIELDS,
  // Above 3 means 3.
  solverOrder: integer(2, { min: 1 }),
  algorithmType: choice(['deis'], 'deis', { dpmsolver: 'deis', 'dpmsolver++': 'deis' }),
  solverType: choice(['logrho'], 'logrho', {
    midpoint: 'logrho',
    heun: 'logrho',
    bh1: 'logrho',
    bh2: 'logrho',
  }),
  timestepSpacing: choice(TIMESTEP_SPACINGS, 'linspace'),
  stepsOffset: integer(0),
} as const;

export type DEISMultistepConfig = SchedulerConfig<typeof FIELDS>;

const MAX_ORDER = 3;

/** ∫ (ln ρ − c)/(b − c) dρ up to `rho`. */
function linearIntegral(rho: number, b: number, c: number): number {
  return (rho * (Math.log(rho) - c - 1)) / (b - c);
}

/** ∫ (ln ρ − c)(ln ρ − d)/((b − c)(b − d)) dρ up to `rho`. */
function quadraticIntegral(rho: number, b: number, c: number, d: number): number {
  const log = Math.log(rho);
  const polynomial = log ** 2 - (c + d + 2) * log + c * d + c + d + 2;
  return (rho * polynomial) / ((b - c) * (b - d));
}

/**
 * Weights of the noise predicted at the levels `rhos`, newest first, for a step from the first of
 * them to `rhoNext`: the integrals of the Lagrange polynomials in ln ρ.
 */
export function deisWeights(rhoNext: number, rhos: readonly number[]): number[] {
  const rho = at(rhos, 0);
  const [a, b = 0, c = 0] = rhos.map(Math.log) as [number, number?, number?];
  const over = (integral: (end: number) => number) => integral(rhoNext) - integral(rho);
  switch (rhos.length) {
    case 1:
      return [rhoNext - rho];
    case 2:
      return [over((end) => linearIntegral(end, a, b)), over((end) => linearIntegral(end, b, a))];
    default:
      return [
        over((end) => quadraticIntegral(end, a, b, c)),
        over((end) => quadraticIntegral(end, b, c, a)),
        over((end) => quadraticIntegral(end, c, a, b)),
      ];
  }
}

/** One step: x/α grows by the predicted noise times the growth of ρ = σ/α. */
function deisUpdate<T>(
  levels: readonly NoiseLevel[],
  sample: T,
  models: readonly LinearForm<T>[],
): LinearForm<T> {
  const rhos = levels.map(({ alpha, sigma }) => sigma / alpha);
  const weights = deisWeights(at(rhos, 0), rhos.slice(1));
  const grown = plus(
    [[1 / at(levels, 1).alpha, sample]],
    ...models.map((model, j) => times(at(weights, j), model)),
  );
  return times(at(levels, 0).alpha, grown);
}

/** Exponential integrator that extrapolates the predicted noise in ln ρ. */
export class DEISMultistepScheduler implements Scheduler {
  /** The name of the class, which is that in diffusers. */
  static readonly className = 'DEISMultistepScheduler';
  /** Whether `start` takes `timesteps` and `sigmas`. */
  static readonly customSchedules = { timesteps: false, sigmas: false } as const;
  readonly className = DEISMultistepScheduler.className;
  readonly customSchedules = DEISMultistepScheduler.customSchedules;
  readonly config: DEISMultistepConfig;
  readonly #tables: SolverTables;

  /**
   * From a `scheduler_config.json`, or the `config` of another scheduler: fields that this class does
   * not have are passed over, missing ones take diffusers' defaults, and `overrides` come on top.
   *
   * @throws ERR_INVALID_ARGUMENT for an impossible value
   */
  static fromConfig(
    config: SchedulerConfigInput,
    overrides: SchedulerOverrides<typeof FIELDS> = {},
  ): DEISMultistepScheduler {
    return new DEISMultistepScheduler(
      readConfig(DEISMultistepScheduler.className, FIELDS, config, overrides),
    );
  }

  private constructor(config: DEISMultistepConfig) {
    sigmaFormula(config);
    this.config = config;
    const alphasCumprod = makeAlphasCumprod({ ...config, rescaleBetasZeroSnr: false });
    this.#tables = { alphasCumprod, sigmas: makeSigmaTable(alphasCumprod) };
  }

  start(options: StartOptions): DEISMultistepRun {
    const { config } = this;
    const numInferenceSteps = checkStepCount(options, this);
    supportedPrediction(config, IMAGE_PREDICTION_TYPES);
    const flowShift = runFlowShift(config, options);
    const request = { kind: 'steps', numInferenceSteps } as const;
    const schedule = solverSchedule(
      { ...config, ...PLAIN_SCHEDULE, flowShift },
      this.#tables,
      request,
    );
    const { timesteps, levels } = schedule;
    const sigmas = [...levels, finalLevel(config, this.#tables, levels)].map(Math.fround);
    const begin = skipTimesteps(timesteps, numInferenceSteps, 1, options);
    return new DEISMultistepRun({ begin, sigmas }, timesteps, config);
  }
}

export class DEISMultistepRun extends SolverRun {
  readonly #config: DEISMultistepConfig;
  readonly #models: History<SolverModel>;

  constructor(
    schedule: ConstructorParameters<typeof SolverRun>[0],
    timesteps: readonly number[],
    config: DEISMultistepConfig,
  ) {
    super(schedule, timesteps, config);
    this.#config = config;
    this.#models = new History(Math.min(config.solverOrder, MAX_ORDER));
  }

  protected update(modelOutput: Tensor, timestep: number, sample: Tensor): Tensor {
    const i = this.stepIndex(timestep);
    const model = this.#convert(i, modelOutput, sample);
    this.#models.push(model);
    const order = this.#order(i);
    const models = this.#models.entries.slice(0, order).map(({ form }) => form);
    const next = deisUpdate(this.levelsBack(i + 1, order + 1), model.sample, models);
    const result = evaluate(next, promote(sample.dtype, modelOutput.dtype));
    this.advance();
    return result;
  }

  /** The predicted noise, by way of the image, which may be bounded. */
  #convert(i: number, modelOutput: Tensor, sample: Tensor): SolverModel {
    const config = this.#config;
    const level = this.level(i);
    const ratio = this.sigmaAt(i);
    const image = imageModel({ config, level, ratio, sample, modelOutput });
    // After a flow prediction diffusers divides by the unscaled level; pictures depend on it.
    const sigma = config.predictionType === 'flow_prediction' ? ratio : level.sigma;
    const noise = noiseFromImage({ ...level, sigma }, image.sample, image.form);
    return new SolverModel(noise, image.sample, image.output);
  }

  /** As far as history reaches, less at the end of few steps. */
  #order(i: number): number {
    const reachable = this.#models.entries.length;
    const isShortened = this.#config.lowerOrderFinal && this.length < FEW_STEPS;
    return isShortened ? Math.min(reachable, this.length - i) : reachable;
  }

  protected override release(): void {
    this.#models.clear();
  }
}
