/** What every scheduler offers, and what is checked once when a run starts. */

import { expected } from '../errors.js';
import type { Generator } from '../generator.js';
import type { Tensor } from '../tensor.js';

/** Custom schedules that a scheduler class accepts. */
export interface CustomSchedules {
  /** Whether `start` takes `timesteps`. */
  readonly timesteps: boolean;
  /** Whether `start` takes `sigmas`. */
  readonly sigmas: boolean;
}

/** Exactly one of `numInferenceSteps`, `timesteps` and `sigmas` says which schedule to run. */
export interface StartOptions {
  /** Number of denoising steps, 1 or more, before `strength` shortens them. */
  readonly numInferenceSteps?: number | undefined;
  /** Timesteps to visit instead of evenly spaced ones, descending. */
  readonly timesteps?: readonly number[] | undefined;
  /**
   * Noise levels to visit instead of evenly spaced ones, descending, with the final one; for UniPC
   * without it, and only in flow models.
   */
  readonly sigmas?: readonly number[] | undefined;
  /** Share of the schedule to run, 0 to 1, as image-to-image does: the first steps are skipped. */
  readonly strength?: number | undefined;
  /** Number of timesteps to skip, 0 or more, instead of `strength`. */
  readonly beginIndex?: number | undefined;
  /** Logarithm of the flow shift, for schedulers with `useDynamicShifting`. */
  readonly mu?: number | undefined;
}

/** What `step` may need besides its tensors. A class ignores what it has no use for. */
export interface StepOptions {
  /** Amount of fresh noise, 0 (none) to 1, for DDIM (default 0) and TCD (default 0.3). */
  readonly eta?: number | undefined;
  /** Source of fresh noise: one for the batch or one per sample. Default: the global one. */
  readonly generator?: Generator | readonly Generator[] | undefined;
  /** Noise to use instead of drawing it, shaped as the sample (DDIM, DPM solvers, LCM, TCD). */
  readonly varianceNoise?: Tensor | undefined;
  /** Derive the noise from the clipped image (DDIM). */
  readonly useClippedModelOutput?: boolean | undefined;
  /** Noise to add before each Euler step, 0 or more; 0. */
  readonly sChurn?: number | undefined;
  /** Lowest sigma at which noise is added; 0. */
  readonly sTmin?: number | undefined;
  /** Highest sigma at which noise is added; infinity. */
  readonly sTmax?: number | undefined;
  /** Factor of the noise that is added; 1. */
  readonly sNoise?: number | undefined;
}

/** One pass over a schedule: all state of a generation's scheduler. Dispose it when done. */
export interface SchedulerRun {
  /** Timesteps to visit, in order; may be fractional. */
  readonly timesteps: readonly number[];
  /** Noise level of each timestep and the final one; empty where a class has none. */
  readonly sigmas: readonly number[];
  /** Standard deviation of the noise that text-to-image starts from. */
  readonly initNoiseSigma: number;
  /** Timesteps per denoising step: 1, or 2 for Heun and KDPM2. */
  readonly order: number;
  /** Number of denoising steps left after `strength`. */
  readonly numInferenceSteps: number;
  /** The sample as the network wants it. A fresh handle, which the caller disposes. */
  scaleModelInput(sample: Tensor, timestep: number): Tensor;
  /**
   * The sample at the next timestep, a fresh handle. `sample` is the unscaled one.
   * Call it once for each of `timesteps`, in order.
   *
   * @throws ERR_DISPOSED after `dispose`
   * @throws ERR_INVALID_ARGUMENT past the end of the schedule
   */
  step(modelOutput: Tensor, timestep: number, sample: Tensor, options?: StepOptions): Tensor;
  /** `original` with `noise` at the level of `timestep`, a fresh handle. */
  addNoise(original: Tensor, noise: Tensor, timestep: number): Tensor;
  /** Releases the model outputs that are kept for later steps. */
  dispose(): void;
  [Symbol.dispose](): void;
}

/** A sampling algorithm with its configuration. Immutable, so runs may share it. */
export interface Scheduler {
  /** The name of the class, which is that in diffusers. */
  readonly className: string;
  /** Frozen; camelCase names; pass it to another class's `fromConfig`. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Whether `start` takes `timesteps` and `sigmas`. */
  readonly customSchedules: CustomSchedules;
  /**
   * Begins a run over a schedule. Runs know nothing of one another; dispose each when it is done.
   *
   * @throws ERR_INVALID_ARGUMENT for options that the schedule cannot follow
   */
  start(options: StartOptions): SchedulerRun;
}

/** The schedule that was asked for, checked. */
export type ScheduleRequest =
  | { readonly kind: 'steps'; readonly numInferenceSteps: number }
  | { readonly kind: 'timesteps'; readonly timesteps: readonly number[] }
  | { readonly kind: 'sigmas'; readonly sigmas: readonly number[] };

/** Far beyond use; keeps a slip from filling the memory with timesteps. */
const MAX_STEPS = 100_000;

function checkNumbers(values: readonly number[], name: string, min: number): readonly number[] {
  const fine = Array.isArray(values) && values.length >= min && values.every(Number.isFinite);
  if (!fine) throw expected(`an array of ${min} or more finite numbers`, name, values);
  return values;
}

/** Checks the options of a run. @throws ERR_INVALID_ARGUMENT */
export function checkStartOptions(
  options: StartOptions,
  { className, customSchedules }: Pick<Scheduler, 'className' | 'customSchedules'>,
): ScheduleRequest {
  if (typeof options !== 'object' || options === null) {
    throw expected('an object such as { numInferenceSteps: 50 }', 'options', options);
  }
  const { numInferenceSteps, timesteps, sigmas, strength, beginIndex } = options;
  const given = [numInferenceSteps, timesteps, sigmas].filter((value) => value != null);
  if (given.length !== 1) {
    throw expected('exactly one of numInferenceSteps, timesteps and sigmas', 'options', options);
  }
  if (strength != null && !(typeof strength === 'number' && strength >= 0 && strength <= 1)) {
    throw expected('a number between 0 and 1', 'strength', strength);
  }
  if (beginIndex != null && !(Number.isSafeInteger(beginIndex) && beginIndex >= 0)) {
    throw expected('a whole number of at least 0', 'beginIndex', beginIndex);
  }
  if (timesteps != null) {
    if (!customSchedules.timesteps) throw unsupported(className, 'timesteps', timesteps);
    return { kind: 'timesteps', timesteps: checkNumbers(timesteps, 'timesteps', 1) };
  }
  if (sigmas != null) {
    if (!customSchedules.sigmas) throw unsupported(className, 'sigmas', sigmas);
    return { kind: 'sigmas', sigmas: checkNumbers(sigmas, 'sigmas', 2) };
  }
  const count = Number.isSafeInteger(numInferenceSteps) ? (numInferenceSteps as number) : 0;
  if (count < 1 || count > MAX_STEPS) {
    throw expected(`a whole number from 1 to ${MAX_STEPS}`, 'numInferenceSteps', numInferenceSteps);
  }
  return { kind: 'steps', numInferenceSteps: count };
}

/** As `checkStartOptions`, for classes without custom sigmas. */
export function checkTimestepOptions(
  options: StartOptions,
  scheduler: Pick<Scheduler, 'className' | 'customSchedules'>,
): Exclude<ScheduleRequest, { kind: 'sigmas' }> {
  const request = checkStartOptions(options, scheduler);
  if (request.kind !== 'sigmas') return request;
  throw unsupported(scheduler.className, 'sigmas', request.sigmas);
}

/** As `checkStartOptions`, for classes without custom schedules: the number of steps. */
export function checkStepCount(
  options: StartOptions,
  scheduler: Pick<Scheduler, 'className' | 'customSchedules'>,
): number {
  const request = checkStartOptions(options, scheduler);
  if (request.kind !== 'steps') throw unsupported(scheduler.className, request.kind, request);
  return request.numInferenceSteps;
}

function unsupported(className: string, name: 'timesteps' | 'sigmas', received: unknown) {
  const hint = `${className} has no custom ${name}; EulerDiscreteScheduler does.`;
  return expected('numInferenceSteps', name, received, hint);
}

/** Where a run begins in the full list of timesteps. */
export interface Begin {
  /** Undefined where nobody asked, and the first timestep is looked up instead. */
  readonly beginIndex: number | undefined;
  readonly timesteps: readonly number[];
  readonly numInferenceSteps: number;
}

/**
 * Skips the first timesteps as image-to-image pipelines do: of N steps the last ⌊N·strength⌋ run.
 *
 * @throws ERR_INVALID_ARGUMENT where no step is left
 */
export function skipTimesteps(
  timesteps: readonly number[],
  numInferenceSteps: number,
  order: number,
  { strength, beginIndex }: StartOptions,
): Begin {
  if (strength == null && beginIndex == null) {
    return { beginIndex: undefined, timesteps, numInferenceSteps };
  }
  if (strength == null) {
    const rest = timesteps.slice(beginIndex);
    if (rest.length === 0) {
      throw expected(`a whole number below ${timesteps.length}`, 'beginIndex', beginIndex);
    }
    return { beginIndex, timesteps: rest, numInferenceSteps: Math.ceil(rest.length / order) };
  }
  // The product is truncated as it stands: 50 · 0.58 is 28.999… in float64 and counts as 28.
  const kept = Math.min(Math.trunc(numInferenceSteps * strength), numInferenceSteps);
  const begin = (numInferenceSteps - kept) * order;
  const rest = timesteps.slice(begin);
  if (rest.length === 0) {
    const leastKept = numInferenceSteps - Math.ceil(timesteps.length / order) + 1;
    const least = leastStrength(leastKept, numInferenceSteps);
    const hint = `With ${numInferenceSteps} steps nothing would be left to run.`;
    throw expected(`a number of at least ${least}`, 'strength', strength, hint);
  }
  return { beginIndex: begin, timesteps: rest, numInferenceSteps: kept };
}

/** The smallest strength of four decimals that keeps `kept` of `total` steps. */
export function leastStrength(kept: number, total: number): number {
  const least = Math.ceil((1e4 * kept) / total);
  // The product is truncated: see above.
  const isEnough = Math.trunc(total * (least / 1e4)) >= kept;
  return (isEnough ? least : least + 1) / 1e4;
}
