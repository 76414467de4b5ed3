/**
 * Heun's method on the probability flow ODE, deterministic.
 * Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models", algorithm 1
 * https://arxiv.org/abs/2206.00364
 */

import { expected } from '../errors.js';
import { clamp } from '../ops.js';
import { Scratch } from '../scratch.js';
import type { Tensor } from '../tensor.js';
import type { SchedulerConfig, SchedulerConfigInput, SchedulerOverrides } from './config.js';
import { BETA_SCHEDULES, choice, flag, number, readConfig, supportedPrediction } from './config.js';
import { denoised, derivative } from './euler-discrete.js';
import { History, KeptForm } from './history.js';
import { evaluate, type LinearForm, plus, promote, times } from './linear-form.js';
import { makeAlphasCumprod } from './noise-schedule.js';
import { ScaledSigmaRun } from './run.js';
import {
  checkTimestepOptions,
  type Scheduler,
  type StartOptions,
  skipTimesteps,
} from './scheduler.js';
import {
  doubled,
  makeSigmaTables,
  SECOND_ORDER_FIELDS,
  type SigmaTables,
  sigmaSchedule,
} from './sigma-schedule.js';
import { initialSigma, sigmaFormula } from './sigmas.js';

const FIELDS = {
  ...SECOND_ORDER_FIELDS,
  betaSchedule: choice([...BETA_SCHEDULES, 'exp'], 'linear'),
  clipSample: flag(false),
  clipSampleRange: number(1),
} as const;

export type HeunDiscreteConfig = SchedulerConfig<typeof FIELDS>;
const PREDICTIONS = ['epsilon', 'sample', 'v_prediction'] as const;

/** Euler steps corrected by the derivative where they lead: two evaluations a step. */
export class HeunDiscreteScheduler implements Scheduler {
  /** The name of the class, which is that in diffusers. */
  static readonly className = 'HeunDiscreteScheduler';
  /** Whether `start` takes `timesteps` and `sigmas`. */
  static readonly customSchedules = { timesteps: true, sigmas: false } as const;
  readonly className = HeunDiscreteScheduler.className;
  readonly customSchedules = HeunDiscreteScheduler.customSchedules;
  readonly config: HeunDiscreteConfig;
  readonly #tables: SigmaTables;

  /**
   * From a `scheduler_config.json`, or the `config` of another scheduler: fields that this class does
   * not have are passed over, missing ones take diffusers' defaults, and `overrides` come on top.
   *
   * @throws ERR_INVALID_ARGUMENT for an impossible value
   */
  static fromConfig(
    config: SchedulerConfigInput,
    overrides: SchedulerOverrides<typeof FIELDS> = {},
  ): HeunDiscreteScheduler {
    return new HeunDiscreteScheduler(
      readConfig(HeunDiscreteScheduler.className, FIELDS, config, overrides),
    );
  }

  private constructor(config: HeunDiscreteConfig) {
    sigmaFormula(config);
    this.config = config;
    this.#tables = makeSigmaTables(makeAlphasCumprod({ ...config, rescaleBetasZeroSnr: false }));
  }

  start(options: StartOptions): HeunDiscreteRun {
    const request = checkTimestepOptions(options, this);
    const formula = sigmaFormula(this.config);
    if (request.kind === 'timesteps' && formula !== undefined) {
      const hint = `Custom timesteps do not go with ${formula}.`;
      throw expected('numInferenceSteps', 'timesteps', request.timesteps, hint);
    }
    const schedule = sigmaSchedule(this.config, this.#tables, request);
    const timesteps = doubled(schedule.timesteps.map(Math.fround));
    const sigmas = [...doubled(schedule.levels), 0].map(Math.fround);
    // Custom timesteps count twice each, in diffusers too, so strength keeps that many steps.
    const count = request.kind === 'steps' ? request.numInferenceSteps : timesteps.length;
    const begin = skipTimesteps(timesteps, count, 2, options);
    const initNoiseSigma = initialSigma(sigmas, this.config.timestepSpacing);
    return new HeunDiscreteRun({ begin, sigmas, initNoiseSigma, order: 2 }, timesteps, this.config);
  }
}

export class HeunDiscreteRun extends ScaledSigmaRun {
  readonly #config: HeunDiscreteConfig;
  readonly #predictionType: (typeof PREDICTIONS)[number];
  /** Between the evaluations of a step: its start, half the first derivative's way on. */
  readonly #halfway = new History<KeptForm>(1);

  constructor(
    schedule: ConstructorParameters<typeof ScaledSigmaRun>[0],
    timesteps: readonly number[],
    config: HeunDiscreteConfig,
  ) {
    super(schedule, timesteps);
    this.#config = config;
    this.#predictionType = supportedPrediction(config, PREDICTIONS);
  }

  protected update(modelOutput: Tensor, timestep: number, sample: Tensor): Tensor {
    const i = this.stepIndex(timestep);
    const [halfway] = this.#halfway.entries;
    const sigma = this.sigmaAt(i);
    const dt = halfway ? sigma - this.sigmaAt(i - 1) : this.sigmaAt(i + 1) - sigma;
    const dtype = promote(sample.dtype, modelOutput.dtype);
    const { clipSample, clipSampleRange } = this.#config;
    using scratch = new Scratch();
    const x: LinearForm<Tensor> = [[1, sample]];
    let D = denoised(this.#predictionType, { sigma, sigmaHat: sigma }, x, modelOutput);
    if (clipSample) {
      // In float64, since the derivative magnifies a rounding of it by 1/σ.
      using predicted = evaluate(D, 'float64');
      D = [[1, scratch.own(clamp(predicted, -clipSampleRange, clipSampleRange))]];
    }
    const d = derivative(x, D, sigma);
    const next = plus(halfway?.form ?? x, times(halfway ? dt / 2 : dt, d));
    const result = evaluate(next, dtype);
    if (halfway) this.#halfway.clear();
    else this.#halfway.push(new KeptForm(plus(x, times(dt / 2, d))));
    this.advance();
    return result;
  }

  protected override release(): void {
    this.#halfway.clear();
  }
}
