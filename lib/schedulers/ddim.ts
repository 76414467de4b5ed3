/**
 * Denoising diffusion implicit models.
 * https://arxiv.org/abs/2010.02502, formulas (12) and (16)
 */

import { expected } from '../errors.js';
import { Scratch } from '../scratch.js';
import type { Tensor } from '../tensor.js';
import type { SchedulerConfig, SchedulerConfigInput, SchedulerOverrides } from './config.js';
import {
  choice,
  flag,
  integer,
  MODEL_FIELDS,
  number,
  readConfig,
  supportedPrediction,
} from './config.js';
import { evaluate, type LinearForm, minus, plus, promote, times } from './linear-form.js';
import { makeAlphasCumprod } from './noise-schedule.js';
import { at, roundHalfEven } from './numerics.js';
import { AlphaBarRun, type RunSchedule } from './run.js';
import {
  checkStepCount,
  type Scheduler,
  type StartOptions,
  type StepOptions,
  skipTimesteps,
} from './scheduler.js';
import { drawNoise } from './step-noise.js';
import { boundImage } from './threshold.js';
import { spacedTimesteps, TIMESTEP_SPACINGS } from './timesteps.js';

const FIELDS = {
  ...MODEL_FIELDS,
  clipSample: flag(true),
  setAlphaToOne: flag(true),
  stepsOffset: integer(0),
  thresholding: flag(false),
  dynamicThresholdingRatio: number(0.995),
  clipSampleRange: number(1),
  sampleMaxValue: number(1),
  timestepSpacing: choice(TIMESTEP_SPACINGS, 'leading'),
  rescaleBetasZeroSnr: flag(false),
} as const;

export type DDIMConfig = SchedulerConfig<typeof FIELDS>;
export const DDIM_PREDICTIONS = ['epsilon', 'sample', 'v_prediction'] as const;
type DDIMPredictionType = (typeof DDIM_PREDICTIONS)[number];

/** The predicted image and noise of a model output. */
export function ddimPrediction<T>(
  predictionType: DDIMPredictionType,
  alphaBar: number,
  sample: T,
  modelOutput: T,
): { readonly x0: LinearForm<T>; readonly epsilon: LinearForm<T> } {
  const alpha = Math.sqrt(alphaBar);
  const sigma = Math.sqrt(1 - alphaBar);
  const x: LinearForm<T> = [[1, sample]];
  const output: LinearForm<T> = [[1, modelOutput]];
  switch (predictionType) {
    case 'epsilon':
      return { x0: times(1 / alpha, minus(x, times(sigma, output))), epsilon: output };
    case 'sample':
      return { x0: output, epsilon: times(1 / sigma, minus(x, times(alpha, output))) };
    case 'v_prediction':
      return {
        x0: minus(times(alpha, x), times(sigma, output)),
        epsilon: plus(times(alpha, output), times(sigma, x)),
      };
  }
}

/** σ_t(η): standard deviation of the fresh noise of a step. */
export function ddimSigma(alphaBar: number, alphaBarPrevious: number, eta: number): number {
  const variance = ((1 - alphaBarPrevious) / (1 - alphaBar)) * (1 - alphaBar / alphaBarPrevious);
  return eta * Math.sqrt(variance);
}

/** Denoising diffusion implicit models: deterministic with η = 0, ancestral with η = 1. */
export class DDIMScheduler implements Scheduler {
  /** The name of the class, which is that in diffusers. */
  static readonly className = 'DDIMScheduler';
  /** Whether `start` takes `timesteps` and `sigmas`. */
  static readonly customSchedules = { timesteps: false, sigmas: false } as const;
  readonly className = DDIMScheduler.className;
  readonly customSchedules = DDIMScheduler.customSchedules;
  readonly config: DDIMConfig;
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
  ): DDIMScheduler {
    return new DDIMScheduler(readConfig(DDIMScheduler.className, FIELDS, config, overrides));
  }

  private constructor(config: DDIMConfig) {
    this.config = config;
    this.#alphasCumprod = makeAlphasCumprod(config);
  }

  start(options: StartOptions): DDIMRun {
    const numInferenceSteps = checkStepCount(options, this);
    supportedPrediction(this.config, DDIM_PREDICTIONS);
    const { numTrainTimesteps, stepsOffset, timestepSpacing: spacing } = this.config;
    if (numInferenceSteps > numTrainTimesteps) {
      const hint = `The model was trained with ${numTrainTimesteps} timesteps.`;
      const most = `a whole number of at most ${numTrainTimesteps}`;
      throw expected(most, 'numInferenceSteps', numInferenceSteps, hint);
    }
    const timesteps = spacedTimesteps({
      spacing,
      numTrainTimesteps,
      numInferenceSteps,
      stepsOffset,
    }).map(roundHalfEven);
    const begin = skipTimesteps(timesteps, numInferenceSteps, 1, options);
    const stride = Math.floor(numTrainTimesteps / numInferenceSteps);
    return new DDIMRun({ begin }, this.config, this.#alphasCumprod, stride);
  }
}

export class DDIMRun extends AlphaBarRun {
  readonly #config: DDIMConfig;
  readonly #stride: number;

  constructor(
    schedule: RunSchedule,
    config: DDIMConfig,
    alphasCumprod: Float32Array,
    stride: number,
  ) {
    super(schedule, alphasCumprod, config.setAlphaToOne ? 1 : at(alphasCumprod, 0));
    this.#config = config;
    this.#stride = stride;
  }

  protected update(
    modelOutput: Tensor,
    timestep: number,
    sample: Tensor,
    { eta = 0, generator, varianceNoise, useClippedModelOutput = false }: StepOptions,
  ): Tensor {
    const alphaBar = this.alphaBar(timestep);
    const alphaBarPrevious = this.previousAlphaBar(timestep - this.#stride);
    const dtype = promote(sample.dtype, modelOutput.dtype);
    using scratch = new Scratch();

    let { x0, epsilon } = ddimPrediction(
      supportedPrediction(this.#config, DDIM_PREDICTIONS),
      alphaBar,
      sample,
      modelOutput,
    );
    x0 = boundImage(x0, promote(dtype, 'float32'), this.#config, scratch);
    if (useClippedModelOutput) {
      const x: LinearForm<Tensor> = [[1, sample]];
      epsilon = times(1 / Math.sqrt(1 - alphaBar), minus(x, times(Math.sqrt(alphaBar), x0)));
    }
    const sigma = ddimSigma(alphaBar, alphaBarPrevious, eta);
    // Zero but for rounding when all the noise is fresh.
    const direction = Math.sqrt(Math.max(1 - alphaBarPrevious - sigma ** 2, 0));
    let previous = plus(times(Math.sqrt(alphaBarPrevious), x0), times(direction, epsilon));
    if (eta > 0) {
      const noise =
        varianceNoise ?? scratch.own(drawNoise(modelOutput, modelOutput.dtype, generator));
      previous = plus(previous, [[sigma, noise]]);
    }
    return evaluate(previous, dtype);
  }
}
