/** Timesteps and noise levels of UniPC, which goes its own way with flow models. */

import { expected } from '../errors.js';
import { at, linspace } from './numerics.js';
import type { ScheduleRequest, StartOptions } from './scheduler.js';
import { type SigmaFormulaConfig, sigmaFormula } from './sigmas.js';
import { checkMu } from './solver-config.js';
import {
  finalLevel,
  PLAIN_SCHEDULE,
  type SolverTables,
  solverSchedule,
} from './solver-schedule.js';
import type { TimestepSpacing } from './timesteps.js';

export interface UniPCScheduleConfig extends SigmaFormulaConfig {
  readonly numTrainTimesteps: number;
  readonly useFlowSigmas: boolean;
  readonly flowShift: number;
  readonly useDynamicShifting: boolean;
  readonly timeShiftType: 'exponential' | 'linear';
  readonly shiftTerminal: number | null;
  readonly timestepSpacing: TimestepSpacing;
  readonly stepsOffset: number;
  readonly finalSigmasType: 'zero' | 'sigma_min';
}

/** Whole timesteps, and the noise level of each with the final one. @throws ERR_INVALID_ARGUMENT */
export function unipcSchedule(
  config: UniPCScheduleConfig,
  tables: SolverTables,
  request: ScheduleRequest,
  options: StartOptions,
): { timesteps: readonly number[]; sigmas: readonly number[] } {
  if (config.useDynamicShifting && options.mu == null) {
    throw expected('a finite number', 'mu', options.mu, 'useDynamicShifting needs it.');
  }
  const { timesteps, levels } = levelsOf(config, tables, request, options);
  const last = config.finalSigmasType === 'zero' ? 0 : finalLevel(config, tables, levels);
  return { timesteps, sigmas: [...levels, last].map(Math.fround) };
}

function levelsOf(
  config: UniPCScheduleConfig,
  tables: SolverTables,
  request: ScheduleRequest,
  options: StartOptions,
) {
  const { numTrainTimesteps: T, useFlowSigmas } = config;
  const formula = sigmaFormula(config);
  if (request.kind === 'sigmas') checkCustomSigmas(request.sigmas, useFlowSigmas, formula);
  if (useFlowSigmas && formula === undefined) {
    const levels = flowLevels(config, request, options);
    return { levels, timesteps: levels.map((sigma) => Math.trunc(sigma * T)) };
  }
  const schedule = solverSchedule({ ...config, ...PLAIN_SCHEDULE }, tables, request);
  if (!useFlowSigmas || formula !== 'useKarrasSigmas') return schedule;
  // From noise-to-signal ratios to positions.
  const levels = schedule.levels.map((sigma) => sigma / (sigma + 1));
  return { levels, timesteps: levels.map((sigma) => Math.trunc(sigma * T)) };
}

function checkCustomSigmas(
  sigmas: readonly number[],
  useFlowSigmas: boolean,
  formula: string | undefined,
): void {
  if (useFlowSigmas && formula === undefined) return;
  const hint = useFlowSigmas
    ? `Custom sigmas do not go with ${formula}.`
    : 'UniPC takes custom sigmas only with useFlowSigmas: true.';
  throw expected('numInferenceSteps', 'sigmas', sigmas, hint);
}

/** Positions from noise (1) to image (0), shifted towards the noise. */
function flowLevels(
  config: UniPCScheduleConfig,
  request: ScheduleRequest,
  options: StartOptions,
): number[] {
  const { numTrainTimesteps: T, shiftTerminal } = config;
  const given = request.kind === 'sigmas' ? request.sigmas : [];
  const positions =
    request.kind === 'steps'
      ? linspace(1, 1 / T, request.numInferenceSteps + 1).slice(0, -1)
      : given;
  const shifted = positions.map(shiftBy(config, options));
  const levels = shiftTerminal ? stretched(shifted, shiftTerminal) : shifted;
  // There is no image left at 1 to tell the noise from.
  const eps = 1e-6;
  return levels.map((sigma, i) => (i === 0 && Math.abs(sigma - 1) < eps ? sigma - eps : sigma));
}

/** One function, written twice as in diffusers: a last bit decides where a timestep is cut off. */
function shiftBy(
  { flowShift: shift, timeShiftType, useDynamicShifting }: UniPCScheduleConfig,
  { mu }: StartOptions,
): (sigma: number) => number {
  if (!useDynamicShifting || mu == null) return (x) => (shift * x) / (1 + (shift - 1) * x);
  const dynamic = timeShiftType === 'exponential' ? Math.exp(checkMu(mu)) : checkMu(mu);
  return (x) => dynamic / (dynamic + (1 / x - 1));
}

/** The levels with the last one moved to `end`, the others in proportion. */
function stretched(levels: readonly number[], end: number): number[] {
  const scale = (1 - at(levels, -1)) / (1 - end);
  if (!(scale > 0)) {
    const hint = 'With shiftTerminal a schedule must go below 1.';
    throw expected('more steps', 'the run', levels.length, hint);
  }
  return levels.map((sigma) => 1 - (1 - sigma) / scale);
}
