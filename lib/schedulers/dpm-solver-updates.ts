/**
 * The formulas of DPM-Solver and DPM-Solver++.
 * DPM-Solver: https://arxiv.org/abs/2206.00927
 * DPM-Solver++: https://arxiv.org/abs/2211.01095, algorithm 2 and appendix B
 *
 * DPM-Solver integrates the predicted noise, DPM-Solver++ the predicted image; both are called the
 * solved quantity m here. λ = ln α − ln σ is half the logarithm of the signal-to-noise ratio.
 */

import { type LinearForm, minus, plus, times } from './linear-form.js';
import { at } from './numerics.js';
import type { NoiseLevel } from './solver-model.js';

export const DPM_ALGORITHMS = [
  'dpmsolver',
  'dpmsolver++',
  'sde-dpmsolver',
  'sde-dpmsolver++',
] as const;
export type DPMAlgorithm = (typeof DPM_ALGORITHMS)[number];

export type DPMSolverType = 'midpoint' | 'heun';

export function solvesForImage(algorithm: DPMAlgorithm): boolean {
  return algorithm === 'dpmsolver++' || algorithm === 'sde-dpmsolver++';
}

export function addsNoise(algorithm: DPMAlgorithm): boolean {
  return algorithm === 'sde-dpmsolver' || algorithm === 'sde-dpmsolver++';
}

// (eᵏ − 1)/k − 1 and (eᵏ − 1 − k)/k² − ½, which vanish with k.
export const psi1 = (k: number): number => (k === 0 ? 0 : Math.expm1(k) / k - 1);
export const psi2 = (k: number): number => (k === 0 ? 0 : (Math.expm1(k) - k) / k ** 2 - 0.5);

// Where a schedule ends with the same level twice, rounding may let the last step go up by a hair.
const root = (x: number): number => Math.sqrt(Math.max(x, 0));

/**
 * The exact solution of the linear part of the differential equation over a step of h in λ:
 * x_t = a x + w ∫ … + n noise, where the integral runs over eᵏ.
 */
export function exponentials(algorithm: DPMAlgorithm, t: NoiseLevel, s: NoiseLevel) {
  const h = t.lambda - s.lambda;
  switch (algorithm) {
    case 'dpmsolver++':
      return { h, a: t.sigma / s.sigma, w: -t.alpha, k: -h, n: 0 };
    case 'dpmsolver':
      return { h, a: t.alpha / s.alpha, w: -t.sigma, k: h, n: 0 };
    case 'sde-dpmsolver++': {
      const n = t.sigma * root(-Math.expm1(-2 * h));
      return { h, a: (t.sigma / s.sigma) * Math.exp(-h), w: -t.alpha, k: -2 * h, n };
    }
    case 'sde-dpmsolver': {
      const n = t.sigma * root(Math.expm1(2 * h));
      return { h, a: t.alpha / s.alpha, w: -2 * t.sigma, k: h, n };
    }
  }
}

export interface SolverUpdate<T> {
  readonly algorithm: DPMAlgorithm;
  readonly solverType: DPMSolverType;
  /** The level to step to, the current one, and those of the earlier `models`. */
  readonly levels: readonly NoiseLevel[];
  readonly sample: T;
  /** The solved quantity at the current and earlier levels; their number is the order, 1 to 3. */
  readonly models: readonly LinearForm<T>[];
  readonly noise?: T | undefined;
}

/** One step of first, second or third order. */
export function solverUpdate<T>(update: SolverUpdate<T>): LinearForm<T> {
  const { algorithm, solverType, levels, models } = update;
  const t = at(levels, 0);
  const s0 = at(levels, 1);
  const m0 = at(models, 0);
  const { h, a, w, k, n } = exponentials(algorithm, t, s0);
  const noise: LinearForm<T> = update.noise === undefined ? [] : [[n, update.noise]];
  const first = plus([[a, update.sample]], times(w * Math.expm1(k), m0), noise);
  if (models.length === 1) return first;

  const h0 = s0.lambda - at(levels, 2).lambda;
  const D1_0 = times(h / h0, minus(m0, at(models, 1)));
  if (models.length === 2) {
    const c = solverType === 'midpoint' ? 0.5 * Math.expm1(k) : psi1(k);
    return plus(first, times(w * c, D1_0));
  }
  const h1 = at(levels, 2).lambda - at(levels, 3).lambda;
  const D1_1 = times(h / h1, minus(at(models, 1), at(models, 2)));
  const difference = minus(D1_0, D1_1);
  const D1 = plus(D1_0, times(h0 / (h0 + h1), difference));
  const D2 = times(h / (h0 + h1), difference);
  // The stochastic solver of diffusers has ½ with the other sign here; pictures depend on it.
  const c2 = algorithm === 'sde-dpmsolver++' ? psi2(k) + 1 : psi2(k);
  return plus(first, times(w * psi1(k), D1), times(w * c2, D2));
}
