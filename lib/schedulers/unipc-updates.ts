/**
 * The formulas of UniPC.
 * https://arxiv.org/abs/2302.04867, algorithms 1 and 2, appendix B
 *
 * m is the predicted image, or the predicted noise. λ = ln α − ln σ.
 */

import { type LinearForm, minus, plus, times } from './linear-form.js';
import { at, solveLinear } from './numerics.js';
import type { NoiseLevel } from './solver-model.js';

export interface UniPCStep<T> {
  /** Whether m is the predicted image. */
  readonly forImage: boolean;
  /** B(h) = h, or eʰ − 1. */
  readonly solverType: 'bh1' | 'bh2';
  /** The level to step to, the one to step from, and the earlier ones; one more than the order. */
  readonly levels: readonly NoiseLevel[];
  /** The sample at the level to step from. */
  readonly sample: T;
  /** m at the levels that it is known at, newest first. */
  readonly models: readonly LinearForm<T>[];
}

/** What predictor and corrector share. */
function expansion<T>({ forImage, solverType, levels, sample }: UniPCStep<T>, m0: LinearForm<T>) {
  const t = at(levels, 0);
  const s = at(levels, 1);
  const h = t.lambda - s.lambda;
  const hh = forImage ? -h : h;
  const phi1 = Math.expm1(hh);
  const B = solverType === 'bh1' ? hh : phi1;
  const a = forImage ? t.sigma / s.sigma : t.alpha / s.alpha;
  const w = forImage ? t.alpha : t.sigma;
  // Positions of the earlier levels, the step being 1 long.
  const r = levels.slice(2).map(({ lambda }) => (lambda - s.lambda) / h);
  const first = plus([[a, sample]], times(-w * phi1, m0));
  return { h, first, r, weight: -w * B, moments: moments(hh, B, r.length + 1) };
}

/** b: what the weighted powers of the positions must sum up to. */
function moments(hh: number, B: number, order: number): number[] {
  let factorial = 1;
  let phi = Math.expm1(hh) / hh - 1;
  return Array.from({ length: order }, (_, i) => {
    const moment = (phi * factorial) / B;
    factorial *= i + 2;
    phi = phi / hh - 1 / factorial;
    return moment;
  });
}

/** ρ: weights of the differences at the positions `r`. */
function differenceWeights(r: readonly number[], b: readonly number[]): number[] {
  const powers = r.map((_, i) => r.map((position) => position ** i));
  return solveLinear(powers, b.slice(0, r.length));
}

function differences<T>(
  models: readonly LinearForm<T>[],
  m0: LinearForm<T>,
  r: readonly number[],
  weights: readonly number[],
): LinearForm<T> {
  return plus(
    ...r.map((position, i) => times(at(weights, i) / position, minus(at(models, i), m0))),
  );
}

/** UniP: the sample at the next level, from m at the current and earlier ones. */
export function unipcPredictor<T>(step: UniPCStep<T>): LinearForm<T> {
  const [m0 = [], ...earlier] = step.models;
  const { h, first, r, weight, moments } = expansion(step, m0);
  // The last levels may be the same: a step of no length changes nothing.
  if (r.length === 0 || h === 0) return first;
  const weights = r.length === 1 ? [0.5] : differenceWeights(r, moments);
  return plus(first, times(weight, differences(earlier, m0, r, weights)));
}

/** UniC: the same step again, with m at its end as the first of `models`. */
export function unipcCorrector<T>(step: UniPCStep<T>): LinearForm<T> {
  const [mt = [], m0 = [], ...earlier] = step.models;
  const { h, first, r, weight, moments } = expansion(step, m0);
  if (h === 0) return first;
  const positions = [...r, 1];
  const weights = r.length === 0 ? [0.5] : differenceWeights(positions, moments);
  return plus(first, times(weight, differences([...earlier, mt], m0, positions, weights)));
}
