/** The counterpart of generate_schedulers.py: runs one case with our schedulers. */

import { Generator } from '../../../lib/generator.js';
import { abs, concat, linearCombination, multiply, narrow } from '../../../lib/ops.js';
import type { StartOptions, StepOptions } from '../../../lib/schedulers/index.js';
import { schedulerClass } from '../../../lib/schedulers/index.js';
import { type DType, Tensor } from '../../../lib/tensor.js';

export interface Case {
  readonly name?: string;
  readonly className: string;
  /** snake_case, as on disk. */
  readonly config: Readonly<Record<string, unknown>>;
  /** A class whose configuration this one is made from. */
  readonly via?: string;
  readonly overrides?: Readonly<Record<string, unknown>>;
  readonly start: StartOptions;
  readonly step?: StepOptions;
  readonly seed?: number;
  readonly shape?: readonly number[];
  readonly dtype?: DType;
  /** How many steps of the schedule to do; all unless given. */
  readonly steps?: number;
  /** Channels that the model puts after the sample's, for learned variances. */
  readonly extraChannels?: number;
}

/** What either side gives; null stands for a number that is not finite. */
export interface Result {
  readonly timesteps: readonly (number | null)[];
  readonly sigmas: readonly (number | null)[];
  readonly initNoiseSigma: number | null;
  readonly numInferenceSteps: number;
  readonly noisy?: readonly (number | null)[];
  readonly noisyAgain?: readonly (number | null)[];
  /** The sample after each step. */
  readonly samples: readonly (readonly (number | null)[])[];
}

const SHAPE = [2, 3, 2, 2];

function pattern(seed: number, shape: readonly number[], dtype: DType): Tensor {
  const count = shape.reduce((product, size) => product * size, 1);
  const values = Float32Array.from(
    { length: count },
    (_, k) => (((k * 37 + seed * 101 + 13) % 97) - 48) / 48,
  );
  using exact = Tensor.fromArray(values, shape);
  return exact.to({ dtype });
}

function modelOutput(sample: Tensor, index: number, extraChannels: number): Tensor {
  using fixed = pattern(index, sample.shape, sample.dtype);
  const output = linearCombination([0.25, 0.5], [sample, fixed]);
  if (extraChannels === 0) return output;
  using plain = output;
  using first = narrow(plain, 1, 0, extraChannels);
  using extra = abs(first);
  return concat([plain, extra], 1);
}

function numbers(tensor: Tensor): number[] {
  using wide = tensor.to({ dtype: 'float64' });
  return [...(wide.data as Float64Array)];
}

export function runCase(one: Case): Result {
  const via =
    one.via === undefined ? one.config : schedulerClass(one.via).fromConfig(one.config).config;
  const scheduler = schedulerClass(one.className).fromConfig(via, one.overrides ?? {});
  using run = scheduler.start(one.start);
  const shape = one.shape ?? SHAPE;
  const dtype = one.dtype ?? 'float32';
  const options = { ...one.step, generator: new Generator().manualSeed(one.seed ?? 0) };

  using noise = pattern(1000, shape, dtype);
  using clean = pattern(2000, shape, dtype);
  using sigma = Tensor.fromArray(new Float32Array([run.initNoiseSigma]), [1]);
  using sigmaCast = sigma.to({ dtype });
  const img2img = one.start.strength !== undefined;
  const first = run.timesteps[0] ?? 0;
  let sample = img2img ? run.addNoise(clean, noise, first) : multiply(noise, sigmaCast);
  const noisy = numbers(sample);
  let noisyAgain: number[] | undefined;
  const samples: number[][] = [];
  for (const [i, t] of run.timesteps.slice(0, one.steps).entries()) {
    using input = run.scaleModelInput(sample, t);
    using output = modelOutput(input, i, one.extraChannels ?? 0);
    const next = run.step(output, t, sample, options);
    sample.dispose();
    sample = next;
    samples.push(numbers(sample));
    const following = run.timesteps[1];
    if (i === 0 && img2img && following !== undefined) {
      using again = run.addNoise(clean, noise, following);
      noisyAgain = numbers(again);
    }
  }
  sample.dispose();
  const { timesteps, sigmas, initNoiseSigma, numInferenceSteps } = run;
  const common = { timesteps, sigmas, initNoiseSigma, numInferenceSteps, samples };
  return img2img ? { ...common, noisy, ...(noisyAgain && { noisyAgain }) } : common;
}

const finite = (x: number | null | undefined): x is number => Number.isFinite(x);

/** The largest magnitude among numbers, those that are not finite left out. */
export function magnitude(values: readonly (number | null)[]): number {
  return Math.max(...values.filter(finite).map(Math.abs), 1e-30);
}

/**
 * The largest difference of two lists, relative to `scale` (default: the largest number of the
 * second). Where theirs is not finite, anything goes; where ours is not, nothing does.
 */
export function relativeError(
  ours: readonly (number | null)[],
  theirs: readonly (number | null)[],
  scale = magnitude(theirs),
): number {
  if (ours.length !== theirs.length) return Number.POSITIVE_INFINITY;
  let error = 0;
  for (const [i, value] of ours.entries()) {
    const other = theirs[i];
    if (!finite(other)) continue;
    if (!finite(value)) return Number.POSITIVE_INFINITY;
    error = Math.max(error, Math.abs(value - other) / scale);
  }
  return error;
}

/**
 * The largest difference of any step, relative to what the step computes with: the sample before
 * it or after it, whichever is larger. Float32 rounds both.
 */
export function stepError(
  ours: Pick<Result, 'samples'>,
  theirs: Pick<Result, 'samples' | 'noisy' | 'initNoiseSigma'>,
): number {
  if (ours.samples.length !== theirs.samples.length) return Number.POSITIVE_INFINITY;
  const start = theirs.noisy ? magnitude(theirs.noisy) : (theirs.initNoiseSigma ?? 1);
  const errors = ours.samples.map((sample, i) => {
    const before = theirs.samples[i - 1];
    const after = theirs.samples[i] ?? [];
    return relativeError(
      sample,
      after,
      Math.max(before ? magnitude(before) : start, magnitude(after)),
    );
  });
  return Math.max(0, ...errors);
}
