/** What the multistep and the singlestep DPM-Solver share besides their formulas. */

import { expected } from '../errors.js';
import { narrow } from '../ops.js';
import {
  choice,
  nullAsDefault,
  number,
  optional,
  supportedPrediction,
  VARIANCE_TYPES,
  type VarianceType,
} from './config.js';
import { type DPMAlgorithm, solvesForImage } from './dpm-solver-updates.js';
import { isLearned } from './posterior.js';
import { SOLVER_FIELDS } from './solver-config.js';
import {
  IMAGE_PREDICTION_TYPES,
  imageModel,
  type ModelInputs,
  NOISE_PREDICTION_TYPES,
  noiseModel,
  type SolverModel,
} from './solver-model.js';

export const DPM_FIELDS = {
  ...SOLVER_FIELDS,
  solverType: choice(['midpoint', 'heun'], 'midpoint', {
    logrho: 'midpoint',
    bh1: 'midpoint',
    bh2: 'midpoint',
  }),
  finalSigmasType: choice(['zero', 'sigma_min'], 'zero'),
  lambdaMinClipped: nullAsDefault(number(Number.NEGATIVE_INFINITY)),
  varianceType: optional(choice(VARIANCE_TYPES, 'learned')),
} as const;

interface DPMConfig {
  readonly algorithmType: DPMAlgorithm;
  readonly finalSigmasType: 'zero' | 'sigma_min';
  readonly varianceType: VarianceType | null;
}

/** Where a solver that integrates the noise would divide by zero. @throws ERR_INVALID_ARGUMENT */
export function checkFinalSigma({ algorithmType, finalSigmasType }: DPMConfig): void {
  if (solvesForImage(algorithmType) || finalSigmasType === 'sigma_min') return;
  const hint = `algorithmType ${algorithmType} divides by the final sigma.`;
  throw expected('sigma_min', 'finalSigmasType', finalSigmasType, hint);
}

/** @throws ERR_INVALID_ARGUMENT for a prediction type that the algorithm cannot convert */
export function checkPrediction(config: DPMConfig & ModelInputs['config']): void {
  const forImage = solvesForImage(config.algorithmType);
  supportedPrediction(config, forImage ? IMAGE_PREDICTION_TYPES : NOISE_PREDICTION_TYPES);
}

/** What the algorithm integrates, from what the network gave. */
export function dpmModel(
  inputs: ModelInputs & { readonly config: DPMConfig & ModelInputs['config'] },
): SolverModel {
  const { algorithmType, predictionType, varianceType } = inputs.config;
  const convert = solvesForImage(algorithmType) ? imageModel : noiseModel;
  if (!isLearned(varianceType) || predictionType !== 'epsilon') return convert(inputs);
  // A learned variance follows the prediction in the channels.
  using modelOutput = narrow(inputs.modelOutput, 1, 0, 3);
  return convert({ ...inputs, modelOutput });
}
