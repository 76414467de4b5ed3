/** The configuration fields that DPM-Solver, DEIS and UniPC share. */

import { expected } from '../errors.js';
import { choice, flag, MODEL_FIELDS, number } from './config.js';
import type { StartOptions } from './scheduler.js';

export const SOLVER_FIELDS = {
  ...MODEL_FIELDS,
  thresholding: flag(false),
  dynamicThresholdingRatio: number(0.995),
  sampleMaxValue: number(1),
  lowerOrderFinal: flag(true),
  useKarrasSigmas: flag(false),
  useExponentialSigmas: flag(false),
  useBetaSigmas: flag(false),
  useFlowSigmas: flag(false),
  flowShift: number(1),
  useDynamicShifting: flag(false),
  timeShiftType: choice(['exponential'], 'exponential'),
} as const;

/** `mu`, checked. @throws ERR_INVALID_ARGUMENT */
export function checkMu(mu: number): number {
  if (!Number.isFinite(mu)) throw expected('a finite number', 'mu', mu);
  return mu;
}

/** The flow shift of a run: eᵘ where `mu` is given. @throws ERR_INVALID_ARGUMENT */
export function runFlowShift(
  config: { readonly flowShift: number; readonly useDynamicShifting: boolean },
  { mu }: StartOptions,
): number {
  if (mu == null) return config.flowShift;
  if (!config.useDynamicShifting) {
    throw expected('nothing', 'mu', mu, 'It needs useDynamicShifting: true.');
  }
  return Math.exp(checkMu(mu));
}
