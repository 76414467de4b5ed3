// Which part of a schedule runs, where a base model and its refiner share it ("ensemble of expert
// denoisers", Balaji et al., https://arxiv.org/abs/2211.01324).
import { expected, InvalidArgumentError } from '../errors.js';
import { checkNumber } from '../options.js';
import { roundHalfEven } from '../schedulers/numerics.js';
import type { Scheduler, SchedulerRun, StartOptions } from '../schedulers/scheduler.js';

export interface DenoisingRange {
  /** Share of the schedule that has run already; the image is latents as noisy as that. */
  denoisingStart?: number;
  /** Share of the schedule after which to stop, with noisy latents. */
  denoisingEnd?: number;
}

/** @throws InvalidArgumentError */
export function checkDenoisingRange({ denoisingStart, denoisingEnd }: DenoisingRange): void {
  for (const [name, value] of Object.entries({ denoisingStart, denoisingEnd })) {
    if (value !== undefined) checkNumber(value, name, { min: 0, max: 1 });
  }
  if (!isInside(denoisingStart) || !isInside(denoisingEnd) || denoisingStart < denoisingEnd) return;
  throw new InvalidArgumentError(
    `Expected denoisingStart (${denoisingStart}) to be less than denoisingEnd (${denoisingEnd}).`,
  );
}

/** Only then a bound counts; 0 and 1 mean the whole schedule. */
function isInside(value: number | undefined): value is number {
  return value !== undefined && value > 0 && value < 1;
}

/**
 * A run that begins at `denoisingStart`, and the timesteps of it up to `denoisingEnd`.
 *
 * @throws InvalidArgumentError where no timestep is left
 */
export function startRange(
  scheduler: Scheduler,
  schedule: StartOptions,
  { denoisingStart, denoisingEnd }: DenoisingRange,
): { run: SchedulerRun; timesteps: readonly number[] } {
  const cutoff = (share: number) => {
    const trained = Number(scheduler.config.numTrainTimesteps);
    return roundHalfEven(trained - share * trained);
  };
  const run = isInside(denoisingStart)
    ? startBelow(scheduler, schedule, cutoff(denoisingStart), denoisingStart)
    : scheduler.start(schedule);
  if (!isInside(denoisingEnd)) return { run, timesteps: run.timesteps };
  const last = cutoff(denoisingEnd);
  const count = run.timesteps.filter((timestep) => timestep >= last).length;
  if (count > 0) return { run, timesteps: run.timesteps.slice(0, count) };
  run.dispose();
  throw nothingLeft('denoisingEnd', denoisingEnd);
}

function startBelow(
  scheduler: Scheduler,
  { strength: _, ...schedule }: StartOptions,
  cutoff: number,
  share: number,
): SchedulerRun {
  using whole = scheduler.start(schedule);
  let count = whole.timesteps.filter((timestep) => timestep < cutoff).length;
  // A scheduler of second order visits each timestep but the first twice; a pair stays together.
  if (whole.order === 2 && count % 2 === 0) count += 1;
  const beginIndex = whole.timesteps.length - count;
  if (count === 0 || beginIndex < 0) throw nothingLeft('denoisingStart', share);
  return scheduler.start({ ...schedule, beginIndex });
}

function nothingLeft(name: string, share: number): InvalidArgumentError {
  return expected('a share that leaves steps to run', name, share, 'Use more steps.');
}
