/**
 * Ancestral sampling for the priors of unCLIP and Kandinsky.
 * unCLIP: https://arxiv.org/abs/2204.06125
 * DDPM: https://arxiv.org/abs/2006.11239, algorithm 2
 */

import { expected } from '../errors.js';
import { clamp } from '../ops.js';
import { Scratch } from '../scratch.js';
import type { Tensor } from '../tensor.js';
import type { SchedulerConfig, SchedulerConfigInput, SchedulerOverrides } from './config.js';
import {
  choice,
  flag,
  integer,
  number,
  PREDICTION_TYPES,
  readConfig,
  supportedPrediction,
  VARIANCE_TYPES,
} from './config.js';
import { ddimPrediction } from './ddim.js';
import { evaluate, promote } from './linear-form.js';
import { makeAlphasCumprod, makeBetas } from './noise-schedule.js';
import { at, roundHalfEven } from './numerics.js';
import { drawFromPosterior, splitVariance, stepPosterior, supportedVariance } from './posterior.js';
import { AlphaBarRun, type RunSchedule } from './run.js';
import {
  checkStepCount,
  type Scheduler,
  type StartOptions,
  type StepOptions,
  skipTimesteps,
} from './scheduler.js';

const FIELDS = {
  numTrainTimesteps: integer(1000, { min: 1 }),
  varianceType: choice(VARIANCE_TYPES, 'fixed_small_log'),
  clipSample: flag(true),
  clipSampleRange: number(1),
  predictionType: choice(PREDICTION_TYPES, 'epsilon'),
  betaSchedule: choice(['squaredcos_cap_v2'], 'squaredcos_cap_v2'),
} as const;

export type UnCLIPConfig = SchedulerConfig<typeof FIELDS>;
const PREDICTIONS = ['epsilon', 'sample'] as const;
const VARIANCES = ['fixed_small_log', 'learned_range'] as const;

interface Tables {
  readonly betas: Float32Array;
  readonly alphasCumprod: Float32Array;
}

/** Ancestral sampling with the cosine schedule, timesteps spread over both ends. */
export class UnCLIPScheduler implements Scheduler {
  /** The name of the class, which is that in diffusers. */
  static readonly className = 'UnCLIPScheduler';
  /** Whether `start` takes `timesteps` and `sigmas`. */
  static readonly customSchedules = { timesteps: false, sigmas: false } as const;
  readonly className = UnCLIPScheduler.className;
  readonly customSchedules = UnCLIPScheduler.customSchedules;
  readonly config: UnCLIPConfig;
  readonly #tables: Tables;

  /**
   * From a `scheduler_config.json`, or the `config` of another scheduler: fields that this class does
   * not have are passed over, missing ones take diffusers' defaults, and `overrides` come on top.
   *
   * @throws ERR_INVALID_ARGUMENT for an impossible value
   */
  static fromConfig(
    config: SchedulerConfigInput,
    overrides: SchedulerOverrides<typeof FIELDS> = {},
  ): UnCLIPScheduler {
    return new UnCLIPScheduler(readConfig(UnCLIPScheduler.className, FIELDS, config, overrides));
  }

  private constructor(config: UnCLIPConfig) {
    this.config = config;
    const { betaSchedule, numTrainTimesteps } = config;
    const schedule = {
      numTrainTimesteps,
      betaSchedule,
      betaStart: 0,
      betaEnd: 0,
      trainedBetas: null,
    };
    this.#tables = {
      betas: makeBetas(schedule),
      alphasCumprod: makeAlphasCumprod({ ...schedule, rescaleBetasZeroSnr: false }),
    };
  }

  start(options: StartOptions): UnCLIPRun {
    const numInferenceSteps = checkStepCount(options, this);
    if (numInferenceSteps < 2) {
      const hint = 'The timesteps are spread over both ends of the schedule.';
      throw expected('a whole number of at least 2', 'numInferenceSteps', numInferenceSteps, hint);
    }
    const stride = (this.config.numTrainTimesteps - 1) / (numInferenceSteps - 1);
    const timesteps = Array.from({ length: numInferenceSteps }, (_, i) =>
      roundHalfEven((numInferenceSteps - 1 - i) * stride),
    );
    const begin = skipTimesteps(timesteps, numInferenceSteps, 1, options);
    return new UnCLIPRun({ begin }, this.config, this.#tables);
  }
}

export class UnCLIPRun extends AlphaBarRun {
  readonly #config: UnCLIPConfig;
  readonly #predictionType: (typeof PREDICTIONS)[number];
  readonly #varianceType: (typeof VARIANCES)[number];
  readonly #betas: Float32Array;
  #position = 0;

  constructor(schedule: RunSchedule, config: UnCLIPConfig, { alphasCumprod, betas }: Tables) {
    super(schedule, alphasCumprod, 1);
    this.#config = config;
    this.#predictionType = supportedPrediction(config, PREDICTIONS);
    this.#varianceType = supportedVariance(config, VARIANCES);
    this.#betas = betas;
  }

  protected update(
    modelOutput: Tensor,
    timestep: number,
    sample: Tensor,
    { generator }: StepOptions,
  ): Tensor {
    const { clipSample, clipSampleRange } = this.#config;
    using scratch = new Scratch();
    const varianceType = this.#varianceType;
    const split = splitVariance(varianceType, modelOutput, sample, scratch);
    const alphaBar = this.alphaBar(timestep);
    let { x0 } = ddimPrediction(this.#predictionType, alphaBar, sample, split.prediction);
    if (clipSample) {
      using predicted = evaluate(x0, promote(split.prediction.dtype, 'float32'));
      x0 = [[1, scratch.own(clamp(predicted, -clipSampleRange, clipSampleRange))]];
    }
    const posterior = this.#posterior(alphaBar, timestep);
    const last = timestep <= 0;
    const draw = { posterior, x0, sample, split, varianceType, last, generator };
    const result = drawFromPosterior(draw, scratch);
    this.#position += 1;
    return result;
  }

  #posterior(alphaBar: number, timestep: number) {
    if (this.#position >= this.timesteps.length) {
      throw expected(`at most ${this.timesteps.length} steps`, 'the run', 'one more');
    }
    const next = this.timesteps[this.#position + 1] ?? timestep - 1;
    const previous = this.previousAlphaBar(next);
    // α is rounded as diffusers rounds it. In the first step it is about 10⁻⁷, and of 1 − (1 − α) a
    // bit or two are left; near timestep 0 the table's β is not quite 1 − α.
    const beta =
      next === timestep - 1
        ? at(this.#betas, timestep)
        : Math.fround(1 - Math.fround(alphaBar / previous));
    return stepPosterior(alphaBar, previous, Math.fround(1 - beta), beta);
  }
}
