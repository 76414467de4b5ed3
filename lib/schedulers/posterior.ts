/**
 * The posterior of a diffusion step and the noise that it adds, with a variance that is fixed or
 * predicted by the network.
 * DDPM: https://arxiv.org/abs/2006.11239, formulas (6) and (7)
 * Learned range: https://arxiv.org/abs/2102.09672, formula (15)
 */

import { expected } from '../errors.js';
import type { Generator } from '../generator.js';
import { exp, multiply, narrow, sqrt } from '../ops.js';
import type { Scratch } from '../scratch.js';
import type { Tensor } from '../tensor.js';
import type { VarianceType } from './config.js';
import { evaluate, type LinearForm, plus, promote, times } from './linear-form.js';
import { drawNoise } from './step-noise.js';

/** Variance types with a formula. `fixed_large_log` has none: it is the root of a logarithm. */
export const STEP_VARIANCES = [
  'fixed_small',
  'fixed_small_log',
  'fixed_large',
  'learned',
  'learned_range',
] as const;
export type StepVariance = (typeof STEP_VARIANCES)[number];

/** @throws ERR_INVALID_ARGUMENT for a variance type that the class cannot use */
export function supportedVariance<const T extends StepVariance>(
  { _className, varianceType }: { _className: string; varianceType: VarianceType },
  supported: readonly T[],
): T {
  const found = supported.find((candidate) => candidate === varianceType);
  if (found !== undefined) return found;
  const hint = `${_className} works with no other.`;
  throw expected(supported.join(' or '), 'varianceType', varianceType, hint);
}

/** Whether the network predicts the variance, in channels of its own. */
export function isLearned(type: VarianceType | null): boolean {
  return type === 'learned' || type === 'learned_range';
}

/** Prediction and, if there is one, variance of a model output that may hold both. */
export interface Split {
  readonly prediction: Tensor;
  readonly variance: Tensor | undefined;
}

/** Splits a model output of a learned variance. Without twice the sample's channels it is whole. */
export function splitVariance(
  type: StepVariance,
  modelOutput: Tensor,
  sample: Tensor,
  scratch: Scratch,
): Split {
  const channels = sample.shape[1] ?? 0;
  if (!isLearned(type) || modelOutput.shape[1] !== 2 * channels) {
    return { prediction: modelOutput, variance: undefined };
  }
  return {
    prediction: scratch.own(narrow(modelOutput, 1, 0, channels)),
    variance: scratch.own(narrow(modelOutput, 1, channels, channels)),
  };
}

/** q(x_{t−1} | x_t, x0): the weights of its mean, its variance β̃, and β, which bounds that. */
export interface Posterior {
  readonly imageWeight: number;
  readonly sampleWeight: number;
  readonly variance: number;
  readonly beta: number;
}

/** The posterior of a step with the given ᾱ at its ends, and α and β between them. */
export function stepPosterior(
  alphaBar: number,
  alphaBarPrevious: number,
  alpha = alphaBar / alphaBarPrevious,
  beta = 1 - alpha,
): Posterior {
  const betaBar = 1 - alphaBar;
  const betaBarPrevious = 1 - alphaBarPrevious;
  return {
    imageWeight: (Math.sqrt(alphaBarPrevious) * beta) / betaBar,
    sampleWeight: (Math.sqrt(alpha) * betaBarPrevious) / betaBar,
    variance: Math.max((betaBarPrevious / betaBar) * beta, 1e-20),
    beta,
  };
}

/** What a draw from a posterior is made of. */
export interface PosteriorDraw {
  readonly posterior: Posterior;
  readonly x0: LinearForm<Tensor>;
  readonly sample: Tensor;
  readonly split: Split;
  readonly varianceType: StepVariance;
  /** Whether this is the last step, which adds no noise. */
  readonly last: boolean;
  readonly generator: Generator | readonly Generator[] | undefined;
}

/**
 * Draws from a posterior. A fresh tensor.
 *
 * @throws ERR_INVALID_ARGUMENT where the network should have predicted a variance and did not
 */
export function drawFromPosterior(draw: PosteriorDraw, scratch: Scratch): Tensor {
  const { posterior, sample, split, varianceType } = draw;
  const { prediction } = split;
  const mean = plus(times(posterior.imageWeight, draw.x0), [[posterior.sampleWeight, sample]]);
  const dtype = promote(sample.dtype, prediction.dtype);
  if (draw.last) return evaluate(mean, dtype);
  const noise = scratch.own(drawNoise(prediction, prediction.dtype, draw.generator));
  const scaled = scaledNoise(varianceType, posterior, noise, split.variance, scratch);
  return evaluate(plus(mean, scaled), dtype);
}

/** `noise` with the variance of a step. */
function scaledNoise(
  type: StepVariance,
  { beta, variance }: Posterior,
  noise: Tensor,
  predicted: Tensor | undefined,
  scratch: Scratch,
): LinearForm<Tensor> {
  if (type === 'fixed_large') return [[Math.sqrt(beta), noise]];
  if (!isLearned(type)) return [[Math.sqrt(variance), noise]];
  if (predicted === undefined) {
    const hint = `With varianceType ${type} the second half of the channels is the variance.`;
    throw expected('twice the channels of sample', 'modelOutput', 'as many', hint);
  }
  if (type === 'learned') {
    using deviation = sqrt(predicted);
    return [[1, scratch.own(multiply(noise, deviation))]];
  }
  // The variance is β^f · β̃^(1 − f), f = (v + 1)/2 for a prediction v between −1 and 1.
  const [low, high] = [Math.log(variance), Math.log(beta)];
  using exponent = evaluate([[(high - low) / 4, predicted]], promote(predicted.dtype, 'float32'));
  using spread = exp(exponent);
  return [[Math.exp((high + low) / 4), scratch.own(multiply(noise, spread))]];
}
