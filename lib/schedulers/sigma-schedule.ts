/**
 * Timesteps and noise levels of the samplers that step in σ: evenly spaced timesteps, custom ones,
 * or levels by a formula with the timesteps that belong to them.
 */

import { choice, flag, integer, MODEL_FIELDS, number } from './config.js';
import { makeSigmaTable } from './noise-schedule.js';
import { at, interpolate } from './numerics.js';
import type { ScheduleRequest } from './scheduler.js';
import { formulaSigmas, logSigmaTable, type SigmaFormulaConfig, sigmaToT } from './sigmas.js';
import { spacedTimesteps, TIMESTEP_SPACINGS, type TimestepSpacing } from './timesteps.js';

/** The fields of these samplers. */
export const SIGMA_FIELDS = {
  ...MODEL_FIELDS,
  useKarrasSigmas: flag(false),
  useExponentialSigmas: flag(false),
  useBetaSigmas: flag(false),
  timestepSpacing: choice(TIMESTEP_SPACINGS, 'linspace'),
  stepsOffset: integer(0),
} as const;

/** The same with the betas that the second-order samplers start from. */
export const SECOND_ORDER_FIELDS = {
  ...SIGMA_FIELDS,
  betaStart: number(0.00085),
  betaEnd: number(0.012),
} as const;

export interface SigmaScheduleConfig extends SigmaFormulaConfig {
  readonly numTrainTimesteps: number;
  readonly timestepSpacing: TimestepSpacing;
  readonly stepsOffset: number;
}

/** Σ and ln Σ of every training timestep, float32. */
export interface SigmaTables {
  readonly sigmas: Float32Array;
  readonly logSigmas: Float32Array;
}

/** Timesteps and the noise level of each, neither rounded to float32. */
export interface SigmaSchedule {
  readonly timesteps: readonly number[];
  readonly levels: readonly number[];
}

export function makeSigmaTables(alphasCumprod: Float32Array): SigmaTables {
  const sigmas = makeSigmaTable(alphasCumprod);
  return { sigmas, logSigmas: logSigmaTable(sigmas) };
}

type Request = Exclude<ScheduleRequest, { kind: 'sigmas' }>;

export interface SigmaScheduleOptions {
  /** Rounds spaced timesteps before they are looked up; most classes keep them in float32. */
  readonly round?: (timestep: number) => number;
  /** Whether `sigmaMin` and `sigmaMax`, left over from another class, are the ends for Karras too. */
  readonly karrasEnds?: boolean;
}

/** The schedule that was asked for. */
export function sigmaSchedule(
  config: SigmaScheduleConfig,
  tables: SigmaTables,
  request: Request,
  { round = Math.fround, karrasEnds = true }: SigmaScheduleOptions = {},
): SigmaSchedule {
  const fixedEnds = config.useKarrasSigmas && !karrasEnds;
  const formula = fixedEnds ? { ...config, sigmaMin: null, sigmaMax: null } : config;
  return withFormula(formula, tables, spacedSchedule(config, tables, request, round));
}

/** Evenly spaced or custom timesteps and their levels. */
export function spacedSchedule(
  config: Omit<SigmaScheduleConfig, keyof SigmaFormulaConfig>,
  { sigmas }: SigmaTables,
  request: Request,
  round: (timestep: number) => number = Math.fround,
): SigmaSchedule {
  const { timestepSpacing: spacing } = config;
  const wanted =
    request.kind === 'steps'
      ? spacedTimesteps({ ...config, spacing, numInferenceSteps: request.numInferenceSteps })
      : request.timesteps;
  const timesteps = wanted.map(round);
  return { timesteps, levels: timesteps.map((t) => interpolate(t, sigmas)) };
}

/** The schedule, or as many levels by the configured formula between the ends of its own. */
export function withFormula(
  config: SigmaFormulaConfig,
  { logSigmas }: SigmaTables,
  schedule: SigmaSchedule,
): SigmaSchedule {
  const ends = { sigmaMax: at(schedule.levels, 0), sigmaMin: at(schedule.levels, -1) };
  const levels = formulaSigmas(config, ends, schedule.timesteps.length);
  if (levels === undefined) return schedule;
  return { levels, timesteps: levels.map((sigma) => sigmaToT(sigma, logSigmas)) };
}

/** Each entry but the first twice: a first evaluation, then two for every further step. */
export function doubled<T>(list: readonly T[]): T[] {
  return list.flatMap((value, i) => (i === 0 ? [value] : [value, value]));
}
