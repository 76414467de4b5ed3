/**
 * Strategic stochastic sampling of trajectory consistency models: each step aims below the next
 * timestep and adds noise to get back up to it.
 * https://arxiv.org/abs/2402.19159, algorithm 4
 */

import { expected } from '../errors.js';
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

export type TCDConfig = ConsistencyConfig;

/** s: the timestep to aim at, below the next one by the share `eta`, as float32 computes it. */
export function aimedTimestep(next: number, eta: number): number {
  return Math.floor(Math.fround(Math.fround(1 - eta) * next));
}

/** Sampler of trajectory consistency models; `eta` (γ in the paper) says how much noise is fresh. */
export class TCDScheduler implements Scheduler {
  /** The name of the class, which is that in diffusers. */
  static readonly className = 'TCDScheduler';
  /** Whether `start` takes `timesteps` and `sigmas`. */
  static readonly customSchedules = { timesteps: true, sigmas: false } as const;
  readonly className = TCDScheduler.className;
  readonly customSchedules = TCDScheduler.customSchedules;

  /**
   * From a `scheduler_config.json`, or the `config` of another scheduler: fields that this class does
   * not have are passed over, missing ones take diffusers' defaults, and `overrides` come on top.
   *
   * @throws ERR_INVALID_ARGUMENT for an impossible value
   */
  static fromConfig(
    config: SchedulerConfigInput,
    overrides: SchedulerOverrides<typeof CONSISTENCY_FIELDS> = {},
  ): TCDScheduler {
    return new TCDScheduler(
      readConfig(TCDScheduler.className, CONSISTENCY_FIELDS, config, overrides),
    );
  }

  private constructor(readonly config: TCDConfig) {}

  start(options: StartOptions): TCDRun {
    return new TCDRun(consistencySchedule(this, options), this.config);
  }
}

export class TCDRun extends ConsistencyRun {
  protected update(
    modelOutput: Tensor,
    timestep: number,
    sample: Tensor,
    { eta = 0.3, generator, varianceNoise }: StepOptions,
  ): Tensor {
    if (!(eta >= 0 && eta <= 1)) throw expected('a number between 0 and 1', 'eta', eta);
    const predictionType = supportedPrediction(this.config, DDIM_PREDICTIONS);
    const dtype = promote(sample.dtype, modelOutput.dtype);
    const alphaBar = this.alphaBar(timestep);
    const { x0, epsilon } = ddimPrediction(predictionType, alphaBar, sample, modelOutput);
    const next = this.following(timestep);
    const aimed = this.alphaBar(aimedTimestep(next ?? 0, eta));
    const below = plus(times(Math.sqrt(aimed), x0), times(Math.sqrt(1 - aimed), epsilon));
    if (next === undefined || eta === 0) return evaluate(below, dtype);

    using scratch = new Scratch();
    const noise = varianceNoise ?? scratch.own(drawNoise(modelOutput, dtype, generator));
    const kept = this.previousAlphaBar(next) / aimed;
    return evaluate(plus(times(Math.sqrt(kept), below), [[Math.sqrt(1 - kept), noise]]), dtype);
  }
}
