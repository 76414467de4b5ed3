/**
 * What the solvers of the DPM-Solver family integrate: the predicted image or the predicted noise,
 * from whatever a network was trained to predict.
 */

import type { Tensor } from '../tensor.js';
import { type PredictionType, supportedPrediction } from './config.js';
import { evaluate, type LinearForm, minus, plus, promote, times } from './linear-form.js';
import { dynamicThreshold, type ThresholdOptions } from './threshold.js';

/** What a solver that integrates the predicted noise can convert. */
export const NOISE_PREDICTION_TYPES = ['epsilon', 'sample', 'v_prediction'] as const;
export type NoisePredictionType = (typeof NOISE_PREDICTION_TYPES)[number];

/** What a solver that integrates the predicted image can convert. */
export const IMAGE_PREDICTION_TYPES = [...NOISE_PREDICTION_TYPES, 'flow_prediction'] as const;
export type ImagePredictionType = (typeof IMAGE_PREDICTION_TYPES)[number];

/** A sample is α · image + σ · noise. λ = ln α − ln σ. */
export interface NoiseLevel {
  readonly alpha: number;
  readonly sigma: number;
  readonly lambda: number;
}

/** The level of a noise-to-signal ratio, or of a flow's position. */
export function noiseLevel(ratio: number, flow: boolean): NoiseLevel {
  const alpha = flow ? 1 - ratio : 1 / Math.sqrt(ratio ** 2 + 1);
  const sigma = flow ? ratio : ratio * alpha;
  return { alpha, sigma, lambda: Math.log(alpha) - Math.log(sigma) };
}

/** The image in a sample with the given noise. */
export function imageFromNoise<T>(
  { alpha, sigma }: NoiseLevel,
  sample: T,
  noise: LinearForm<T>,
): LinearForm<T> {
  return times(1 / alpha, minus([[1, sample]], times(sigma, noise)));
}

/** The noise in a sample of the given image. */
export function noiseFromImage<T>(
  { alpha, sigma }: NoiseLevel,
  sample: T,
  image: LinearForm<T>,
): LinearForm<T> {
  return times(1 / sigma, minus([[1, sample]], times(alpha, image)));
}

/** The predicted image of a model output; `ratio` is the unscaled noise level. */
export function predictedImage<T>(
  predictionType: ImagePredictionType,
  level: NoiseLevel,
  ratio: number,
  sample: T,
  modelOutput: T,
): LinearForm<T> {
  const output: LinearForm<T> = [[1, modelOutput]];
  switch (predictionType) {
    case 'epsilon':
      return imageFromNoise(level, sample, output);
    case 'sample':
      return output;
    case 'v_prediction':
      return minus([[level.alpha, sample]], times(level.sigma, output));
    case 'flow_prediction':
      return minus([[1, sample]], times(ratio, output));
  }
}

/** The predicted noise of a model output. */
function predictedNoise<T>(
  predictionType: NoisePredictionType,
  level: NoiseLevel,
  sample: T,
  modelOutput: T,
): LinearForm<T> {
  const output: LinearForm<T> = [[1, modelOutput]];
  switch (predictionType) {
    case 'epsilon':
      return output;
    case 'sample':
      return noiseFromImage(level, sample, output);
    case 'v_prediction':
      return plus(times(level.alpha, output), [[level.sigma, sample]]);
  }
}

/** The solved quantity of one step: a form of the sample and one other tensor, both its own. */
export class SolverModel implements Disposable {
  constructor(
    readonly form: LinearForm<Tensor>,
    readonly sample: Tensor,
    readonly output: Tensor,
  ) {}

  [Symbol.dispose](): void {
    this.sample.dispose();
    this.output.dispose();
  }
}

interface ModelConfig extends ThresholdOptions {
  readonly _className: string;
  readonly predictionType: PredictionType;
  readonly thresholding: boolean;
}

/** What a step converts. */
export interface ModelInputs {
  readonly config: ModelConfig;
  readonly level: NoiseLevel;
  /** The noise level as the schedule has it, before it is split into α and σ. */
  readonly ratio: number;
  readonly sample: Tensor;
  readonly modelOutput: Tensor;
}

/** The predicted image, bounded where the configuration says so. */
export function imageModel(inputs: ModelInputs): SolverModel {
  const { config, level, ratio } = inputs;
  const predictionType = supportedPrediction(config, IMAGE_PREDICTION_TYPES);
  const sample = inputs.sample.alias();
  const output = inputs.modelOutput.alias();
  const image = predictedImage(predictionType, level, ratio, sample, output);
  if (!config.thresholding) return new SolverModel(image, sample, output);
  using _ = output;
  const bounded = boundedImage(image, config);
  return new SolverModel([[1, bounded]], sample, bounded);
}

/** The predicted noise; that of the bounded image where the configuration says so. */
export function noiseModel(inputs: ModelInputs): SolverModel {
  const { config, level } = inputs;
  const predictionType = supportedPrediction(config, NOISE_PREDICTION_TYPES);
  const sample = inputs.sample.alias();
  const output = inputs.modelOutput.alias();
  const noise = predictedNoise(predictionType, level, sample, output);
  if (!config.thresholding) return new SolverModel(noise, sample, output);
  using _ = output;
  const bounded = boundedImage(imageFromNoise(level, sample, noise), config);
  return new SolverModel(noiseFromImage(level, sample, [[1, bounded]]), sample, bounded);
}

function boundedImage(image: LinearForm<Tensor>, config: ModelConfig): Tensor {
  const dtype = image.map(([, tensor]) => tensor.dtype).reduce(promote, 'float32');
  using predicted = evaluate(image, dtype);
  return dynamicThreshold(predicted, config);
}
