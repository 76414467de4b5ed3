/**
 * Denoising diffusion probabilistic models: ancestral sampling.
 * https://arxiv.org/abs/2006.11239, algorithm 2
 */

import { expected } from '../errors.js';
import { Scratch } from '../scratch.js';
import type { Tensor } from '../tensor.js';
import type { SchedulerConfig, SchedulerConfigInput, SchedulerOverrides } from './config.js';
import {
  BETA_SCHEDULES,
  choice,
  flag,
  integer,
  MODEL_FIELDS,
  number,
  readConfig,
  supportedPrediction,
  VARIANCE_TYPES,
} from './config.js';
import { DDIM_PREDICTIONS, ddimPrediction } from './ddim.js';
import { promote } from './linear-form.js';
import { makeAlphasCumprod } from './noise-schedule.js';
import { roundHalfEven } from './numerics.js';
import {
  drawFromPosterior,
  STEP_VARIANCES,
  type StepVariance,
  splitVariance,
  stepPosterior,
  supportedVariance,
} from './posterior.js';
import { AlphaBarRun, type RunSchedule } from './run.js';
import {
  checkTimestepOptions,
  type ScheduleRequest,
  type Scheduler,
  type StartOptions,
  type StepOptions,
  skipTimesteps,
} from './scheduler.js';
import { boundImage } from './threshold.js';
import { spacedTimesteps, TIMESTEP_SPACINGS } from './timesteps.js';

const FIELDS = {
  ...MODEL_FIELDS,
  betaSchedule: choice([...BETA_SCHEDULES, 'laplace', 'sigmoid'], 'linear'),
  varianceType: choice(VARIANCE_TYPES, 'fixed_small'),
  clipSample: flag(true),
  thresholding: flag(false),
  dynamicThresholdingRatio: number(0.995),
  clipSampleRange: number(1),
  sampleMaxValue: number(1),
  timestepSpacing: choice(TIMESTEP_SPACINGS, 'leading'),
  stepsOffset: integer(0),
  rescaleBetasZeroSnr: flag(false),
} as const;

export type DDPMConfig = SchedulerConfig<typeof FIELDS>;

/** Ancestral sampling: a step to the posterior's mean, then fresh noise. */
export class DDPMScheduler implements Scheduler {
  /** The name of the class, which is that in diffusers. */
  static readonly className = 'DDPMScheduler';
  /** Whether `start` takes `timesteps` and `sigmas`. */
  static readonly customSchedules = { timesteps: true, sigmas: false } as const;
  readonly className = DDPMScheduler.className;
  readonly customSchedules = DDPMScheduler.customSchedules;
  readonly config: DDPMConfig;
  readonly #alphasCumprod: Float32Array;

  /**
   * From a `scheduler_config.json`, or the `config` of another scheduler: fields that this class does
   * not have are passed over, missing ones take diffusers' defaults, and `overrides` come on top.
   *
   * @throws ERR_INVALID_ARGUMENT for an impossible value
   */
  static fromConfig(
    config: SchedulerConfigInput,
    overrides: SchedulerOverrides<typeof FIELDS> = {},
  ): DDPMScheduler {
    return new DDPMScheduler(readConfig(DDPMScheduler.className, FIELDS, config, overrides));
  }

  private constructor(config: DDPMConfig) {
    this.config = config;
    this.#alphasCumprod = makeAlphasCumprod(config);
  }

  start(options: StartOptions): DDPMRun {
    const request = checkTimestepOptions(options, this);
    const timesteps = this.#timesteps(request);
    const count = request.kind === 'steps' ? request.numInferenceSteps : timesteps.length;
    const begin = skipTimesteps(timesteps, count, 1, options);
    return new DDPMRun({ begin }, this.config, this.#alphasCumprod);
  }

  #timesteps(request: Exclude<ScheduleRequest, { kind: 'sigmas' }>): number[] {
    if (request.kind === 'timesteps') return descending(request.timesteps).map(Math.trunc);
    const { numInferenceSteps } = request;
    const { numTrainTimesteps, timestepSpacing: spacing } = this.config;
    if (numInferenceSteps > numTrainTimesteps) {
      const hint = `The model was trained with ${numTrainTimesteps} timesteps.`;
      const most = `a whole number of at most ${numTrainTimesteps}`;
      throw expected(most, 'numInferenceSteps', numInferenceSteps, hint);
    }
    return spacedTimesteps({ ...this.config, spacing, numInferenceSteps }).map(roundHalfEven);
  }
}

function descending(timesteps: readonly number[]): readonly number[] {
  const wrong = timesteps.findIndex((t, i) => t >= (timesteps[i - 1] ?? Number.POSITIVE_INFINITY));
  if (wrong < 0) return timesteps;
  throw expected(
    'a smaller number than the one before it',
    `timesteps[${wrong}]`,
    timesteps[wrong],
  );
}

export class DDPMRun extends AlphaBarRun {
  readonly #config: DDPMConfig;
  readonly #predictionType: (typeof DDIM_PREDICTIONS)[number];
  readonly #varianceType: StepVariance;

  constructor(schedule: RunSchedule, config: DDPMConfig, alphasCumprod: Float32Array) {
    super(schedule, alphasCumprod, 1);
    this.#config = config;
    this.#predictionType = supportedPrediction(config, DDIM_PREDICTIONS);
    this.#varianceType = supportedVariance(config, STEP_VARIANCES);
  }

  protected update(
    modelOutput: Tensor,
    timestep: number,
    sample: Tensor,
    { generator }: StepOptions,
  ): Tensor {
    using scratch = new Scratch();
    const varianceType = this.#varianceType;
    const split = splitVariance(varianceType, modelOutput, sample, scratch);
    const alphaBar = this.alphaBar(timestep);
    const posterior = stepPosterior(alphaBar, this.previousAlphaBar(this.#next(timestep)));
    const predicted = ddimPrediction(this.#predictionType, alphaBar, sample, split.prediction);
    const dtype = promote(sample.dtype, split.prediction.dtype);
    const x0 = boundImage(predicted.x0, promote(dtype, 'float32'), this.#config, scratch);
    const last = timestep <= 0;
    return drawFromPosterior(
      { posterior, x0, sample, split, varianceType, last, generator },
      scratch,
    );
  }

  /** The timestep that a step leads to; −1 after the last. */
  #next(timestep: number): number {
    const index = this.timesteps.indexOf(timestep);
    if (index < 0) throw expected('one of the timesteps of the run', 'timestep', timestep);
    return this.timesteps[index + 1] ?? -1;
  }
}
