/**
 * Which of the training timesteps a generation visits.
 * Table 2 of "Common Diffusion Noise Schedules and Sample Steps are Flawed",
 * https://arxiv.org/abs/2305.08891
 */

import { arange, linspace, roundHalfEven } from './numerics.js';

/** Spread over both ends; multiples of a whole stride from below; of a real stride from above. */
export type TimestepSpacing = 'linspace' | 'leading' | 'trailing';

export const TIMESTEP_SPACINGS = ['linspace', 'leading', 'trailing'] as const;

export interface SpacingOptions {
  readonly spacing: TimestepSpacing;
  readonly numTrainTimesteps: number;
  readonly numInferenceSteps: number;
  readonly stepsOffset: number;
}

function leading(count: number, stride: number, offset: number): number[] {
  return Array.from({ length: count }, (_, i) => (count - 1 - i) * stride + offset);
}

function trailing(from: number, stride: number): number[] {
  return arange(from, 0, -stride).map((t) => roundHalfEven(t) - 1);
}

/** Descending timesteps of the schedulers that step to zero; `linspace` ones are not rounded. */
export function spacedTimesteps(options: SpacingOptions): number[] {
  const { spacing, numTrainTimesteps: T, numInferenceSteps: N, stepsOffset } = options;
  switch (spacing) {
    case 'linspace':
      return linspace(0, T - 1, N).reverse();
    case 'leading':
      return leading(N, Math.floor(T / N), stepsOffset);
    case 'trailing':
      return trailing(T, T / N);
  }
}

/**
 * Descending whole timesteps of the multistep solvers: one more than wanted is spaced, and the
 * smallest dropped. `lastTimestep` is below `numTrainTimesteps` where the noisiest are clipped.
 */
export function solverTimesteps(options: SpacingOptions & { readonly lastTimestep: number }) {
  const {
    spacing,
    numTrainTimesteps: T,
    numInferenceSteps: N,
    stepsOffset,
    lastTimestep,
  } = options;
  switch (spacing) {
    case 'linspace':
      return linspace(0, lastTimestep - 1, N + 1)
        .map(roundHalfEven)
        .reverse()
        .slice(0, -1);
    case 'leading':
      return leading(N + 1, Math.floor(lastTimestep / (N + 1)), stepsOffset).slice(0, -1);
    case 'trailing':
      return trailing(lastTimestep, T / N);
  }
}
