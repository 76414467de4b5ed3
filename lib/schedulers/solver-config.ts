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
  timeShiftType: choice(['exponential', 'linear'], 'exponential'),
} as const;

/** `mu`, checked. @throws ERR_INVALID_ARGUMENT */
export function checkMu(mu: number): number {
  if (!Number.isFinite(mu)) throw expected('a finite number', 'mu', mu);
  return mu;
}

/** The flow shift of a run of DPM-Solver or DEIS. @throws ERR_INVALID_ARGUMENT */
export function runFlowShift(
  {
    flowShift,
    timeShiftType,
    useDynamicShifting,
  }: {
    readonly flowShift: number;
    readonly timeShiftType: 'exponential' | 'linear';
    readonly useDynamicShifting: boolean;
  },
  { mu }: StartOptions,
): number {
  if (mu == null) return flowShift;
  if (!useDynamicShifting || timeShiftType !== 'exponential') {
    const hint = "It needs useDynamicShifting: true and timeShiftType: 'exponential'.";
    throw expected('nothing', 'mu', mu, hint);
  }
  return Math.exp(checkMu(mu));
}
