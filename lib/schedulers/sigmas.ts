/**
 * Noise levels to step through, and the timesteps that belong to them.
 *
 * Karras et al.: https://arxiv.org/abs/2206.00364
 * Beta sampling: https://arxiv.org/abs/2407.12173
 * Uniform log signal-to-noise ratio (Lu et al.): https://arxiv.org/abs/2206.00927
 */

import { expected } from '../errors.js';
import { betaQuantile } from './beta-distribution.js';
import { at, linspace, logFloat32 } from './numerics.js';
import type { TimestepSpacing } from './timesteps.js';

/** ρ = 7 ramp of Karras et al., descending from `sigmaMax`. */
function karrasSigmas(sigmaMin: number, sigmaMax: number, count: number): number[] {
  const rho = 7;
  const min = sigmaMin ** (1 / rho);
  const max = sigmaMax ** (1 / rho);
  return linspace(0, 1, count).map((ramp) => (max + ramp * (min - max)) ** rho);
}

/** Equal steps in ln σ, descending from `sigmaMax`. */
function exponentialSigmas(sigmaMin: number, sigmaMax: number, count: number): number[] {
  return linspace(Math.log(sigmaMax), Math.log(sigmaMin), count).map(Math.exp);
}

/** Quantiles of a Beta(0.6, 0.6) distribution, descending from `sigmaMax`. */
function betaSigmas(sigmaMin: number, sigmaMax: number, count: number): number[] {
  return linspace(0, 1, count).map(
    (ramp) => sigmaMin + betaQuantile(1 - ramp) * (sigmaMax - sigmaMin),
  );
}

/** Equal steps in λ = −ln σ over the whole table, descending from the noisiest. */
export function luSigmas(logSigmas: Float32Array, count: number): number[] {
  const start = at(logSigmas, -1);
  const stop = at(logSigmas, 0);
  return linspace(0, 1, count).map((ramp) => Math.exp(start + ramp * (stop - start)));
}

/** The configuration fields that replace the spaced sigmas by a formula. */
export interface SigmaFormulaConfig {
  readonly useKarrasSigmas: boolean;
  readonly useExponentialSigmas: boolean;
  readonly useBetaSigmas: boolean;
  // May be left over from another class's configuration, hence unchecked.
  readonly sigmaMin?: unknown;
  readonly sigmaMax?: unknown;
}

const FORMULAS = {
  useKarrasSigmas: karrasSigmas,
  useExponentialSigmas: exponentialSigmas,
  useBetaSigmas: betaSigmas,
} as const;

/** The name of the formula that a configuration asks for. @throws ERR_INVALID_ARGUMENT for two */
export function sigmaFormula(config: SigmaFormulaConfig): keyof typeof FORMULAS | undefined {
  const wanted = (Object.keys(FORMULAS) as (keyof typeof FORMULAS)[]).filter((key) => config[key]);
  if (wanted.length > 1) {
    throw expected(
      'at most one of useKarrasSigmas, useExponentialSigmas and useBetaSigmas',
      'the scheduler configuration',
      wanted.join(', '),
    );
  }
  return wanted[0];
}

/** Sigmas by the configured formula between two ends, which the configuration may override. */
export function formulaSigmas(
  config: SigmaFormulaConfig,
  ends: { readonly sigmaMin: number; readonly sigmaMax: number },
  count: number,
): number[] | undefined {
  const formula = sigmaFormula(config);
  if (formula === undefined) return undefined;
  const sigmaMin = typeof config.sigmaMin === 'number' ? config.sigmaMin : ends.sigmaMin;
  const sigmaMax = typeof config.sigmaMax === 'number' ? config.sigmaMax : ends.sigmaMax;
  return FORMULAS[formula](sigmaMin, sigmaMax, count);
}

/** ln Σ in float32. */
export function logSigmaTable(sigmaTable: Float32Array): Float32Array {
  return sigmaTable.map(logFloat32);
}

/**
 * The fractional timestep whose noise level is `sigma`: piecewise linear in ln σ.
 * `float32` is for sigmas that a caller gave, which are rounded to float32 first, and `tensor` for
 * those that diffusers holds in a tensor, for which the last sum is rounded as well.
 */
export function sigmaToT(
  sigma: number,
  logSigmas: Float32Array,
  { float32 = false, tensor = false }: { float32?: boolean; tensor?: boolean } = {},
): number {
  const round = float32 || tensor ? Math.fround : (x: number) => x;
  const floor = Math.max(round(sigma), round(1e-10));
  const logSigma = float32 || tensor ? logFloat32(floor) : Math.log(floor);
  const below = logSigmas.findLastIndex((value) => logSigma >= value);
  const lowIndex = Math.min(Math.max(below, 0), logSigmas.length - 2);
  const low = at(logSigmas, lowIndex);
  const high = at(logSigmas, lowIndex + 1);
  const ratio = round(round(low - logSigma) / Math.fround(low - high));
  const w = Math.min(Math.max(ratio, 0), 1);
  const fromLow = round(1 - w) * lowIndex;
  const fromHigh = w * (lowIndex + 1);
  if (!tensor) return fromLow + fromHigh;
  return Math.fround(Math.fround(fromLow) + Math.fround(fromHigh));
}

/**
 * Standard deviation of the noise that a generation from nothing starts with. Leading timesteps
 * begin below the noisiest one, so the image's share of the variance is added.
 */
export function initialSigma(sigmas: readonly number[], spacing: TimestepSpacing): number {
  const largest = sigmas.reduce((a, b) => Math.max(a, b));
  if (spacing !== 'leading') return largest;
  return Math.fround(Math.sqrt(Math.fround(Math.fround(largest * largest) + 1)));
}
