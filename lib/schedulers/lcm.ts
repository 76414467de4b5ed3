/**
 * Multistep sampling of latent consistency models: each step predicts the image and noises it again.
 * https://arxiv.org/abs/2310.04378, algorithm 3
 */

import { Scratch } from '../scratch.js';
import type { Tensor } from '../tensor.js';
import type { SchedulerConfigInput, SchedulerOverrides } from './config.js';
import { readConfig, supportedPrediction } from './config.js';
import {
  CONSISTENCY_FIELDS,
  type ConsistencyConfig,
  ConsistencyRun,
  consistencySchedule,
} from './consistency.js';
import { DDIM_PREDICTIONS, ddimPrediction } from './ddim.js';
import { evaluate, plus, promote, times } from './linear-form.js';
import type { Scheduler, StartOptions, StepOptions } from './scheduler.js';
import { drawNoise } from './step-noise.js';
import { boundImage } from './threshold.js';

export type LCMConfig = ConsistencyConfig;

/** Standard deviation of images, as the models take it to be. */
const SIGMA_DATA = 0.5;

/** c_skip and c_out: near timestep 0 the model's answer gives way to the sample itself. */
export function boundaryScalings(timestep: number, timestepScaling: number) {
  const scaled = timestep * timestepScaling;
  const norm = scaled ** 2 + SIGMA_DATA ** 2;
  return { skip: SIGMA_DATA ** 2 / norm, out: scaled / Math.sqrt(norm) };
}

/** Sampler of latent consistency models, for 1 to 8 steps. */
export class LCMScheduler implements Scheduler {
  /** The name of the class, which is that in diffusers. */
  static readonly className = 'LCMScheduler';
  /** Whether `start` takes `timesteps` and `sigmas`. */
  static readonly customSchedules = { timesteps: true, sigmas: false } as const;
  readonly className = LCMScheduler.className;
  readonly customSchedules = LCMScheduler.customSchedules;

  /**
   * From a `scheduler_config.json`, or the `config` of another scheduler: fields that this class does
   * not have are passed over, missing ones take diffusers' defaults, and `overrides` come on top.
   *
   * @throws ERR_INVALID_ARGUMENT for an impossible value
   */
  static fromConfig(
    config: SchedulerConfigInput,
    overrides: SchedulerOverrides<typeof CONSISTENCY_FIELDS> = {},
  ): LCMScheduler {
    return new LCMScheduler(
      readConfig(LCMScheduler.className, CONSISTENCY_FIELDS, config, overrides),
    );
  }

  private constructor(readonly config: LCMConfig) {}

  start(options: StartOptions): LCMRun {
    return new LCMRun(consistencySchedule(this, options), this.config);
  }
}

export class LCMRun extends ConsistencyRun {
  protected update(
    modelOutput: Tensor,
    timestep: number,
    sample: Tensor,
    { generator, varianceNoise }: StepOptions,
  ): Tensor {
    const predictionType = supportedPrediction(this.config, DDIM_PREDICTIONS);
    const dtype = promote(sample.dtype, modelOutput.dtype);
    using scratch = new Scratch();
    const { x0 } = ddimPrediction(predictionType, this.alphaBar(timestep), sample, modelOutput);
    const image = boundImage(x0, promote(dtype, 'float32'), this.config, scratch);
    const { skip, out } = boundaryScalings(timestep, this.config.timestepScaling);
    const denoised = plus(times(out, image), [[skip, sample]]);

    const next = this.following(timestep);
    if (next === undefined) return evaluate(denoised, dtype);
    const alphaBar = this.previousAlphaBar(next);
    const noise = varianceNoise ?? scratch.own(drawNoise(modelOutput, dtype, generator));
    return evaluate(
      plus(times(Math.sqrt(alphaBar), denoised), [[Math.sqrt(1 - alphaBar), noise]]),
      dtype,
    );
  }
}
