/**
 * What the samplers of distilled consistency models share: configuration and schedule. The models
 * were distilled at few timesteps, of which a generation visits some.
 */

import { expected } from '../errors.js';
import {
  choice,
  flag,
  integer,
  MODEL_FIELDS,
  number,
  type SchedulerConfig,
  supportedPrediction,
} from './config.js';
import { DDIM_PREDICTIONS } from './ddim.js';
import { makeAlphasCumprod } from './noise-schedule.js';
import { at } from './numerics.js';
import { AlphaBarRun, type RunSchedule } from './run.js';
import {
  checkStartOptions,
  leastStrength,
  type ScheduleRequest,
  type Scheduler,
  type StartOptions,
  skipTimesteps,
} from './scheduler.js';
import { TIMESTEP_SPACINGS } from './timesteps.js';

export const CONSISTENCY_FIELDS = {
  ...MODEL_FIELDS,
  betaStart: number(0.00085),
  betaEnd: number(0.012),
  betaSchedule: choice(['linear', 'scaled_linear', 'squaredcos_cap_v2'], 'scaled_linear'),
  originalInferenceSteps: integer(50, { min: 1 }),
  clipSample: flag(false),
  clipSampleRange: number(1),
  setAlphaToOne: flag(true),
  stepsOffset: integer(0),
  thresholding: flag(false),
  dynamicThresholdingRatio: number(0.995),
  sampleMaxValue: number(1),
  timestepSpacing: choice(TIMESTEP_SPACINGS, 'leading'),
  timestepScaling: number(10),
  rescaleBetasZeroSnr: flag(false),
} as const;

export type ConsistencyConfig = SchedulerConfig<typeof CONSISTENCY_FIELDS>;

/**
 * Descending timesteps of a generation. Of those of the distillation, `strength` takes the share that
 * lies below, and the steps are spread over it; of custom ones it skips the first.
 *
 * @throws ERR_INVALID_ARGUMENT
 */
export function consistencyTimesteps(
  config: Pick<ConsistencyConfig, 'numTrainTimesteps' | 'originalInferenceSteps'>,
  request: ScheduleRequest,
  strength = 1,
): readonly number[] {
  const { numTrainTimesteps, originalInferenceSteps: distilled } = config;
  if (distilled > numTrainTimesteps) {
    const most = `a whole number of at most ${numTrainTimesteps}`;
    throw expected(most, 'originalInferenceSteps', distilled);
  }
  if (request.kind !== 'steps') {
    const given = request.kind === 'timesteps' ? request.timesteps : [];
    const timesteps = checkTimesteps(given.map(Math.trunc), numTrainTimesteps);
    return skipTimesteps(timesteps, timesteps.length, 1, { strength }).timesteps;
  }
  const count = request.numInferenceSteps;
  const hint = `The model was distilled at ${distilled} timesteps.`;
  if (count > distilled) {
    throw expected(`a whole number of at most ${distilled}`, 'numInferenceSteps', count, hint);
  }
  const kept = Math.trunc(distilled * strength);
  if (count > kept) {
    const least = `a number of at least ${leastStrength(count, distilled)} with ${count} steps`;
    throw expected(least, 'strength', strength, hint);
  }
  const stride = Math.floor(numTrainTimesteps / distilled);
  return Array.from({ length: count }, (_, i) => {
    const skipped = Math.floor(i * (kept / count));
    return (kept - skipped) * stride - 1;
  });
}

function checkTimesteps(timesteps: readonly number[], limit: number): readonly number[] {
  const isDescending = timesteps.every((t, i) => i === 0 || t < at(timesteps, i - 1));
  if (isDescending && at(timesteps, 0) < limit) return timesteps;
  throw expected(`descending numbers below ${limit}`, 'timesteps', timesteps);
}

/** What a generation visits. @throws ERR_INVALID_ARGUMENT */
export function consistencySchedule(
  scheduler: Scheduler & { readonly config: ConsistencyConfig },
  options: StartOptions,
): RunSchedule {
  const request = checkStartOptions(options, scheduler);
  supportedPrediction(scheduler.config, DDIM_PREDICTIONS);
  const timesteps = consistencyTimesteps(scheduler.config, request);
  return { begin: skipTimesteps(timesteps, timesteps.length, 1, options) };
}

/** A run that knows which timestep comes next. */
export abstract class ConsistencyRun extends AlphaBarRun {
  constructor(
    schedule: RunSchedule,
    protected readonly config: ConsistencyConfig,
  ) {
    const alphasCumprod = makeAlphasCumprod(config);
    super(schedule, alphasCumprod, config.setAlphaToOne ? 1 : at(alphasCumprod, 0));
  }

  /** Undefined after the last. @throws ERR_INVALID_ARGUMENT for a timestep of no step */
  protected following(timestep: number): number | undefined {
    const index = this.timesteps.indexOf(timestep);
    if (index < 0) throw expected('one of the timesteps of the run', 'timestep', timestep);
    return this.timesteps[index + 1];
  }
}
