/**
 * Second-order midpoint steps inspired by DPM-Solver-2.
 * k-diffusion's sample_dpm_2, https://github.com/crowsonkb/k-diffusion
 * Karras et al., algorithm 2: https://arxiv.org/abs/2206.00364
 */

import type { Tensor } from '../tensor.js';
import type { SchedulerConfig, SchedulerConfigInput, SchedulerOverrides } from './config.js';
import { readConfig, supportedPrediction } from './config.js';
import { denoised, derivative } from './euler-discrete.js';
import { History } from './history.js';
import { evaluate, type LinearForm, plus, promote, times } from './linear-form.js';
import { makeAlphasCumprod } from './noise-schedule.js';
import { at, geometricMeanFloat32, roundHalfEven } from './numerics.js';
import { ScaledSigmaRun } from './run.js';
import { checkStepCount, type Scheduler, type StartOptions, skipTimesteps } from './scheduler.js';
import {
  doubled,
  makeSigmaTables,
  SECOND_ORDER_FIELDS,
  type SigmaScheduleConfig,
  type SigmaTables,
  sigmaSchedule,
} from './sigma-schedule.js';
import { initialSigma, sigmaFormula, sigmaToT } from './sigmas.js';

export type KDPM2DiscreteConfig = SchedulerConfig<typeof SECOND_ORDER_FIELDS>;
const PREDICTIONS = ['epsilon', 'v_prediction'] as const;

/** The levels of N steps, float32 with the final zero, and their timesteps. */
export function kdpm2Schedule(
  config: SigmaScheduleConfig,
  tables: SigmaTables,
  numInferenceSteps: number,
) {
  const request = { kind: 'steps', numInferenceSteps } as const;
  const { timesteps, levels } = sigmaSchedule(config, tables, request);
  return {
    timesteps: config.useKarrasSigmas ? timesteps.map(roundHalfEven) : timesteps,
    levels: [...levels, 0].map(Math.fround),
  };
}

/** The timesteps of both evaluations of each step; the last step has only one. */
export function interleavedTimesteps(
  timesteps: readonly number[],
  midpoints: readonly number[],
  { logSigmas }: SigmaTables,
): number[] {
  const between = midpoints.map((sigma) => sigmaToT(sigma, logSigmas, { tensor: true }));
  return timesteps.flatMap((t, i) => (i === 0 ? [t] : [at(between, i - 1), t]));
}

/** Steps by the derivative at the geometric midpoint: two evaluations a step. */
export class KDPM2DiscreteScheduler implements Scheduler {
  /** The name of the class, which is that in diffusers. */
  static readonly className = 'KDPM2DiscreteScheduler';
  /** Whether `start` takes `timesteps` and `sigmas`. */
  static readonly customSchedules = { timesteps: false, sigmas: false } as const;
  readonly className = KDPM2DiscreteScheduler.className;
  readonly customSchedules = KDPM2DiscreteScheduler.customSchedules;
  readonly config: KDPM2DiscreteConfig;
  readonly #tables: SigmaTables;

  /**
   * From a `scheduler_config.json`, or the `config` of another scheduler: fields that this class does
   * not have are passed over, missing ones take diffusers' defaults, and `overrides` come on top.
   *
   * @throws ERR_INVALID_ARGUMENT for an impossible value
   */
  static fromConfig(
    config: SchedulerConfigInput,
    overrides: SchedulerOverrides<typeof SECOND_ORDER_FIELDS> = {},
  ): KDPM2DiscreteScheduler {
    return new KDPM2DiscreteScheduler(
      readConfig(KDPM2DiscreteScheduler.className, SECOND_ORDER_FIELDS, config, overrides),
    );
  }

  private constructor(config: KDPM2DiscreteConfig) {
    sigmaFormula(config);
    this.config = config;
    this.#tables = makeSigmaTables(makeAlphasCumprod({ ...config, rescaleBetasZeroSnr: false }));
  }

  start(options: StartOptions): KDPM2DiscreteRun {
    const numInferenceSteps = checkStepCount(options, this);
    const { timesteps: steps, levels } = kdpm2Schedule(
      this.config,
      this.#tables,
      numInferenceSteps,
    );
    const midpoints = levels.slice(1).map((sigma, i) => geometricMeanFloat32(sigma, at(levels, i)));
    const timesteps = interleavedTimesteps(steps, midpoints, this.#tables);
    const sigmas = [...doubled(levels), 0];
    const begin = skipTimesteps(timesteps, numInferenceSteps, 2, options);
    const initNoiseSigma = initialSigma(sigmas, this.config.timestepSpacing);
    const schedule = { begin, sigmas, initNoiseSigma, order: 2 };
    return new KDPM2DiscreteRun(schedule, { timesteps, midpoints }, this.config);
  }
}

export class KDPM2DiscreteRun extends ScaledSigmaRun {
  readonly #predictionType: (typeof PREDICTIONS)[number];
  /** Level between the `k`-th level of the schedule and the next. */
  readonly #midpoints: readonly number[];
  /** Between the evaluations of a step: the sample that it started from. */
  readonly #start = new History<Tensor>(1);

  constructor(
    schedule: ConstructorParameters<typeof ScaledSigmaRun>[0],
    lists: { readonly timesteps: readonly number[]; readonly midpoints: readonly number[] },
    config: KDPM2DiscreteConfig,
  ) {
    super(schedule, lists.timesteps);
    this.#predictionType = supportedPrediction(config, PREDICTIONS);
    this.#midpoints = lists.midpoints;
  }

  protected override inputSigma(i: number): number {
    return this.#start.entries.length === 0 ? this.sigmaAt(i) : this.#midpoint(i);
  }

  protected update(modelOutput: Tensor, timestep: number, sample: Tensor): Tensor {
    const i = this.stepIndex(timestep);
    const [start] = this.#start.entries;
    const level = this.inputSigma(i);
    const sigma = start ? this.sigmaAt(i - 1) : level;
    const sigmaNext = start ? this.sigmaAt(i) : this.#midpoint(i + 1);
    const x: LinearForm<Tensor> = [[1, sample]];
    const D = denoised(this.#predictionType, { sigma: level, sigmaHat: level }, x, modelOutput);
    const step = times(sigmaNext - sigma, derivative(x, D, level));
    const next = plus([[1, start ?? sample]], step);
    const result = evaluate(next, promote(sample.dtype, modelOutput.dtype));
    if (start) this.#start.clear();
    else this.#start.push(sample.alias());
    this.advance();
    return result;
  }

  /** Level of the second evaluation at the `i`-th timestep. */
  #midpoint(i: number): number {
    return at(this.#midpoints, Math.floor((i - 1) / 2));
  }

  protected override release(): void {
    this.#start.clear();
  }
}
