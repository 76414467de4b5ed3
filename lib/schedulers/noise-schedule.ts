/**
 * The noise schedule that a diffusion model was trained with: how much of the image (alphas) and
 * how much noise (sigmas) a sample holds at each training timestep.
 *
 * DDPM: https://arxiv.org/abs/2006.11239
 * Cosine schedule: https://arxiv.org/abs/2102.09672
 * Sigmoid schedule: https://arxiv.org/abs/2203.02923
 * Laplace schedule: https://arxiv.org/abs/2407.03297
 * Zero terminal signal-to-noise ratio: https://arxiv.org/abs/2305.08891
 */

import { linspaceFloat32 } from './numerics.js';

/** Beta schedules; every scheduler knows the first three, some know others. */
export type BetaSchedule =
  | 'linear'
  | 'scaled_linear'
  | 'squaredcos_cap_v2'
  | 'exp'
  | 'laplace'
  | 'sigmoid';

export interface BetaConfig {
  readonly numTrainTimesteps: number;
  readonly betaStart: number;
  readonly betaEnd: number;
  readonly betaSchedule: BetaSchedule;
  readonly trainedBetas: readonly number[] | null;
}

export interface NoiseScheduleConfig extends BetaConfig {
  /** Said by each class, since a class without the field may keep another's. */
  readonly rescaleBetasZeroSnr: boolean;
}

/** Variance of the noise that each training timestep adds, float32. */
export function makeBetas(config: BetaConfig): Float32Array {
  const { betaStart, betaEnd, numTrainTimesteps } = config;
  if (config.trainedBetas !== null) return Float32Array.from(config.trainedBetas);
  switch (config.betaSchedule) {
    case 'linear':
      return linspaceFloat32(betaStart, betaEnd, numTrainTimesteps);
    case 'scaled_linear':
      // Linear in the standard deviation: the schedule of the latent diffusion models.
      return linspaceFloat32(Math.sqrt(betaStart), Math.sqrt(betaEnd), numTrainTimesteps).map(
        (root) => root * root,
      );
    case 'squaredcos_cap_v2':
      return betasForAlphaBar(numTrainTimesteps, cosineAlphaBar);
    case 'exp':
      return betasForAlphaBar(numTrainTimesteps, (u) => Math.exp(-12 * u));
    case 'laplace':
      return betasForAlphaBar(numTrainTimesteps, laplaceAlphaBar);
    case 'sigmoid': {
      const range = Math.fround(betaEnd - betaStart);
      const start = Math.fround(betaStart);
      return linspaceFloat32(-6, 6, numTrainTimesteps).map(
        (x) => Math.fround(sigmoidFloat32(x) * range) + start,
      );
    }
  }
}

function cosineAlphaBar(u: number): number {
  const root = Math.cos(((u + 0.008) / 1.008) * (Math.PI / 2));
  return root * root;
}

function laplaceAlphaBar(u: number): number {
  const side = u > 0.5 ? -1 : 1;
  const lambda = -0.5 * side * Math.log(1 - 2 * Math.abs(0.5 - u) + 1e-6);
  const snr = Math.exp(lambda);
  return Math.sqrt(snr / (1 + snr));
}

/** The logistic function, rounded to float32 operation by operation. */
function sigmoidFloat32(x: number): number {
  return Math.fround(1 / Math.fround(1 + Math.fround(Math.exp(-x))));
}

/** Betas of a continuous ᾱ(u), u from 0 to 1, capped where the ratio of neighbours vanishes. */
function betasForAlphaBar(
  numTrainTimesteps: number,
  alphaBar: (u: number) => number,
  maxBeta = 0.999,
): Float32Array {
  return Float32Array.from({ length: numTrainTimesteps }, (_, i) =>
    Math.min(1 - alphaBar((i + 1) / numTrainTimesteps) / alphaBar(i / numTrainTimesteps), maxBeta),
  );
}

/** Cumulative product, accumulated in float64 and kept in float32. */
function cumulativeProduct(values: Float32Array): Float32Array {
  let product = 1;
  return values.map((value) => {
    product *= value;
    return product;
  });
}

const complement = (values: Float32Array): Float32Array => values.map((value) => 1 - value);

/** Betas shifted and scaled so that the last timestep holds no signal at all. */
function rescaleZeroTerminalSnr(betas: Float32Array): Float32Array {
  const roots = cumulativeProduct(complement(betas)).map(Math.sqrt);
  const first = roots[0] ?? 1;
  const last = roots[roots.length - 1] ?? 0;
  const scale = Math.fround(first / Math.fround(first - last));
  const alphasBar = roots.map((root) => {
    const shifted = Math.fround(Math.fround(root - last) * scale);
    return shifted * shifted;
  });
  return alphasBar.map((alphaBar, i) => {
    const previous = i === 0 ? 1 : (alphasBar[i - 1] ?? 1);
    return 1 - Math.fround(alphaBar / previous);
  });
}

/**
 * ᾱ: the share of the signal's variance left at each training timestep, float32.
 *
 * With `rescaleBetasZeroSnr` the last one is zero.
 */
export function makeAlphasCumprod(config: NoiseScheduleConfig): Float32Array {
  const betas = makeBetas(config);
  const rescaled = config.rescaleBetasZeroSnr ? rescaleZeroTerminalSnr(betas) : betas;
  return cumulativeProduct(complement(rescaled));
}

/** ᾱ for schedulers that divide by it: the smallest positive float16 stands for zero at the end. */
export function makePositiveAlphasCumprod(config: NoiseScheduleConfig): Float32Array {
  const alphasCumprod = makeAlphasCumprod(config);
  if (config.rescaleBetasZeroSnr) alphasCumprod[alphasCumprod.length - 1] = 2 ** -24;
  return alphasCumprod;
}

/** Σ: noise level relative to the signal at each training timestep, √((1 − ᾱ)/ᾱ), float32. */
export function makeSigmaTable(alphasCumprod: Float32Array): Float32Array {
  return alphasCumprod.map((alphaBar) =>
    Math.sqrt(Math.fround(Math.fround(1 - alphaBar) / alphaBar)),
  );
}
