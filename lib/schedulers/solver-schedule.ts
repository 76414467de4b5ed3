/**
 * Timesteps and noise levels of the DPM-Solver family: evenly spaced timesteps, custom ones, or
 * levels by a formula with the timesteps that belong to them.
 */

import { expected } from '../errors.js';
import { at, interpolate, linspace, roundHalfEven } from './numerics.js';
import type { ScheduleRequest } from './scheduler.js';
import {
  formulaSigmas,
  logSigmaTable,
  luSigmas,
  type SigmaFormulaConfig,
  sigmaFormula,
  sigmaToT,
} from './sigmas.js';
import { solverTimesteps, type TimestepSpacing } from './timesteps.js';

export interface SolverScheduleConfig extends SigmaFormulaConfig {
  readonly numTrainTimesteps: number;
  readonly useLuLambdas: boolean;
  readonly useFlowSigmas: boolean;
  readonly flowShift: number;
  /** λ of the noisiest timestep to visit. */
  readonly lambdaMinClipped: number;
  /** Whether the timesteps of Karras and Lu sigmas are rounded; else they are cut off. */
  readonly roundsTimesteps: boolean;
  readonly timestepSpacing: TimestepSpacing;
  readonly stepsOffset: number;
}

/** For the classes that have no such fields, whatever another class left in their configuration. */
export const PLAIN_SCHEDULE = {
  useLuLambdas: false,
  lambdaMinClipped: Number.NEGATIVE_INFINITY,
  roundsTimesteps: true,
} as const;

/** What the noise schedule gives for every training timestep, float32. */
export interface SolverTables {
  readonly alphasCumprod: Float32Array;
  readonly sigmas: Float32Array;
}

/** Whole timesteps, and the noise level of each, not yet rounded to float32. */
export interface SolverSchedule {
  readonly timesteps: readonly number[];
  readonly levels: readonly number[];
}

/** Below this many steps the last ones are of lower order, for stability. */
export const FEW_STEPS = 15;

/** Where DEIS and UniPC stop short of no noise at all: at the last level that a formula gave. */
export function finalLevel(
  config: SigmaFormulaConfig & { readonly useFlowSigmas: boolean },
  { sigmas }: SolverTables,
  levels: readonly number[],
): number {
  const isFormula = sigmaFormula(config) !== undefined || config.useFlowSigmas;
  return isFormula ? at(levels, -1) : at(sigmas, 0);
}

/** The schedule that was asked for. @throws ERR_INVALID_ARGUMENT where it contradicts the config */
export function solverSchedule(
  config: SolverScheduleConfig,
  tables: SolverTables,
  request: ScheduleRequest,
): SolverSchedule {
  if (request.kind !== 'steps') return interpolated(customTimesteps(config, request), tables);
  const { numInferenceSteps } = request;
  const { levels, timesteps } =
    fromFormula(config, tables, numInferenceSteps) ??
    interpolated(spacedTimesteps(config, tables, numInferenceSteps), tables);
  // Adding 0 turns −0 into 0.
  return { levels, timesteps: timesteps.map((t) => Math.trunc(t) + 0) };
}

function interpolated(timesteps: readonly number[], { sigmas }: SolverTables): SolverSchedule {
  return { timesteps, levels: timesteps.map((t) => interpolate(t, sigmas)) };
}

function customTimesteps(config: SolverScheduleConfig, request: ScheduleRequest): number[] {
  const timesteps = request.kind === 'timesteps' ? request.timesteps : [];
  const { useFlowSigmas, useLuLambdas } = config;
  const otherFormula = useLuLambdas ? 'useLuLambdas' : useFlowSigmas ? 'useFlowSigmas' : undefined;
  const formula = sigmaFormula(config) ?? otherFormula;
  if (formula !== undefined) {
    const hint = `Custom timesteps do not go with ${formula}.`;
    throw expected('numInferenceSteps', 'timesteps', timesteps, hint);
  }
  return timesteps.map(Math.trunc);
}

function spacedTimesteps(
  config: SolverScheduleConfig,
  tables: SolverTables,
  numInferenceSteps: number,
): number[] {
  const { numTrainTimesteps, stepsOffset, timestepSpacing: spacing } = config;
  const lastTimestep = numTrainTimesteps - clippedTimesteps(config, tables);
  const spacedBy = { spacing, numTrainTimesteps, numInferenceSteps, stepsOffset, lastTimestep };
  return solverTimesteps(spacedBy);
}

/** How many of the noisiest timesteps have a λ below the limit. */
function clippedTimesteps(
  { lambdaMinClipped }: SolverScheduleConfig,
  { alphasCumprod }: SolverTables,
): number {
  const limit = Math.fround(lambdaMinClipped);
  const lambdas = alphasCumprod.map((alphaBar) => {
    const alpha = Math.fround(Math.sqrt(alphaBar));
    const sigma = Math.fround(Math.sqrt(Math.fround(1 - alphaBar)));
    return Math.fround(Math.log(alpha)) - Math.fround(Math.log(sigma));
  });
  const lastVisible = lambdas.findLastIndex((lambda) => lambda >= limit);
  return lambdas.length - 1 - lastVisible;
}

function fromFormula(
  config: SolverScheduleConfig,
  { sigmas }: SolverTables,
  count: number,
): SolverSchedule | undefined {
  const { roundsTimesteps, useFlowSigmas, useKarrasSigmas, useLuLambdas } = config;
  const logs = logSigmaTable(sigmas);
  const useLu = useLuLambdas && !useKarrasSigmas;
  const ends = { sigmaMax: at(sigmas, -1), sigmaMin: at(sigmas, 0) };
  const levels = useLu ? luSigmas(logs, count) : formulaSigmas(config, ends, count);
  if (levels === undefined) return useFlowSigmas ? flowSchedule(config, count) : undefined;
  const timesteps = levels.map((sigma) => sigmaToT(sigma, logs));
  const rounded = (useKarrasSigmas || useLu) && roundsTimesteps;
  return { levels, timesteps: rounded ? timesteps.map(roundHalfEven) : timesteps };
}

/** Positions on a straight line from noise (1) to image (0), shifted towards the noise. */
function flowSchedule(config: SolverScheduleConfig, count: number): SolverSchedule {
  const { flowShift, numTrainTimesteps } = config;
  const levels = linspace(1, 1 / numTrainTimesteps, count + 1)
    .map((alpha) => 1 - alpha)
    .map((sigma) => (flowShift * sigma) / (1 + (flowShift - 1) * sigma))
    .reverse()
    .slice(0, -1);
  return { levels, timesteps: levels.map((sigma) => sigma * numTrainTimesteps) };
}
