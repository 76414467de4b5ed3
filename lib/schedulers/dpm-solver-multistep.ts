/**
 * Multistep DPM-Solver and DPM-Solver++, deterministic and stochastic.
 * DPM-Solver: https://arxiv.org/abs/2206.00927
 * DPM-Solver++: https://arxiv.org/abs/2211.01095
 *
 * The formulas of a step are in dpm-solver-updates.ts.
 */

import { expected } from '../errors.js';
import { narrow } from '../ops.js';
import type { Tensor } from '../tensor.js';
import { roundTo } from './add-noise.js';
import type { SchedulerConfig, SchedulerConfigInput, SchedulerOverrides } from './config.js';
import {
  choice,
  flag,
  integer,
  MODEL_FIELDS,
  nullAsDefault,
  number,
  optional,
  readConfig,
  supportedPrediction,
  VARIANCE_TYPES,
} from './config.js';
import {
  addsNoise,
  DPM_ALGORITHMS,
  IMAGE_PREDICTION_TYPES,
  imageFromNoise,
  NOISE_PREDICTION_TYPES,
  noiseFromImage,
  noiseLevel,
  predictedImage,
  predictedNoise,
  solverUpdate,
  solvesForImage,
} from './dpm-solver-updates.js';
import { History } from './history.js';
import { evaluate, type LinearForm, promote } from './linear-form.js';
import { makePositiveAlphasCumprod, makeSigmaTable } from './noise-schedule.js';
import { at } from './numerics.js';
import { isLearned } from './posterior.js';
import { SigmaRun } from './run.js';
import {
  checkStartOptions,
  type Scheduler,
  type StartOptions,
  type StepOptions,
  skipTimesteps,
} from './scheduler.js';
import { Scratch } from './scratch.js';
import { sigmaFormula } from './sigmas.js';
import { type SolverTables, solverSchedule } from './solver-schedule.js';
import { drawNoise } from './step-noise.js';
import { dynamicThreshold } from './threshold.js';
import { TIMESTEP_SPACINGS } from './timesteps.js';

const FIELDS = {
  ...MODEL_FIELDS,
  solverOrder: choice([1, 2, 3], 2),
  thresholding: flag(false),
  dynamicThresholdingRatio: number(0.995),
  sampleMaxValue: number(1),
  algorithmType: choice(DPM_ALGORITHMS, 'dpmsolver++', { deis: 'dpmsolver++' }),
  solverType: choice(['midpoint', 'heun'], 'midpoint', {
    logrho: 'midpoint',
    bh1: 'midpoint',
    bh2: 'midpoint',
  }),
  lowerOrderFinal: flag(true),
  eulerAtFinal: flag(false),
  useKarrasSigmas: flag(false),
  useExponentialSigmas: flag(false),
  useBetaSigmas: flag(false),
  useLuLambdas: flag(false),
  useFlowSigmas: flag(false),
  flowShift: number(1),
  finalSigmasType: choice(['zero', 'sigma_min'], 'zero'),
  lambdaMinClipped: nullAsDefault(number(Number.NEGATIVE_INFINITY)),
  varianceType: optional(choice(VARIANCE_TYPES, 'learned')),
  timestepSpacing: choice(TIMESTEP_SPACINGS, 'linspace'),
  stepsOffset: integer(0),
  rescaleBetasZeroSnr: flag(false),
  useDynamicShifting: flag(false),
  timeShiftType: choice(['exponential'], 'exponential'),
} as const;

export type DPMSolverMultistepConfig = SchedulerConfig<typeof FIELDS>;

/** Below this many steps the last ones are of lower order, for stability. */
const FEW_STEPS = 15;

/** High-order solver for few steps. */
export class DPMSolverMultistepScheduler implements Scheduler {
  static readonly className = 'DPMSolverMultistepScheduler';
  static readonly customSchedules = { timesteps: true, sigmas: false } as const;
  readonly className = DPMSolverMultistepScheduler.className;
  readonly customSchedules = DPMSolverMultistepScheduler.customSchedules;
  readonly config: DPMSolverMultistepConfig;
  readonly #tables: SolverTables;

  /** @throws ERR_INVALID_ARGUMENT */
  static fromConfig(
    config: SchedulerConfigInput,
    overrides: SchedulerOverrides<typeof FIELDS> = {},
  ): DPMSolverMultistepScheduler {
    return new DPMSolverMultistepScheduler(
      readConfig(DPMSolverMultistepScheduler.className, FIELDS, config, overrides),
    );
  }

  private constructor(config: DPMSolverMultistepConfig) {
    sigmaFormula(config);
    checkAlgorithm(config);
    this.config = config;
    const alphasCumprod = makePositiveAlphasCumprod(config);
    this.#tables = { alphasCumprod, sigmas: makeSigmaTable(alphasCumprod) };
  }

  start(options: StartOptions): DPMSolverMultistepRun {
    const request = checkStartOptions(options, this);
    const flowShift = this.#flowShift(options);
    const schedule = solverSchedule({ ...this.config, flowShift }, this.#tables, request);
    // Adding 0 turns −0 into 0.
    const timesteps = schedule.timesteps.map((t) => Math.trunc(t) + 0);
    const last = this.config.finalSigmasType === 'zero' ? 0 : at(this.#tables.sigmas, 0);
    const sigmas = [...schedule.levels, last].map(Math.fround);
    const count = request.kind === 'steps' ? request.numInferenceSteps : timesteps.length;
    const begin = skipTimesteps(timesteps, count, 1, options);
    checkSolver(this.config, timesteps.length, begin.timesteps.length);
    return new DPMSolverMultistepRun({ begin, sigmas }, timesteps, this.config);
  }

  #flowShift({ mu }: StartOptions): number {
    if (mu == null) return this.config.flowShift;
    if (!Number.isFinite(mu)) throw expected('a finite number', 'mu', mu);
    if (!this.config.useDynamicShifting) {
      throw expected('nothing', 'mu', mu, 'It needs useDynamicShifting: true.');
    }
    return Math.exp(mu);
  }
}

/** What would divide by zero. */
function checkAlgorithm({ algorithmType, finalSigmasType }: DPMSolverMultistepConfig): void {
  if (solvesForImage(algorithmType) || finalSigmasType === 'sigma_min') return;
  const hint = `algorithmType ${algorithmType} divides by the final sigma.`;
  throw expected('sigma_min', 'finalSigmasType', finalSigmasType, hint);
}

/** The order of a step: what was asked for, as far as history reaches, less at the end. */
function stepOrder(
  config: DPMSolverMultistepConfig,
  index: number,
  length: number,
  history: number,
): number {
  const { eulerAtFinal, finalSigmasType, lowerOrderFinal, solverOrder } = config;
  const few = lowerOrderFinal && length < FEW_STEPS;
  const left = length - index;
  const reachable = Math.min(solverOrder, history + 1);
  if (left === 1 && (eulerAtFinal || few || finalSigmasType === 'zero')) return 1;
  return left === 2 && few ? Math.min(reachable, 2) : reachable;
}

/** What has no formula. */
function checkSolver(config: DPMSolverMultistepConfig, length: number, steps: number): void {
  const { algorithmType, solverOrder } = config;
  const forImage = solvesForImage(algorithmType);
  supportedPrediction(config, forImage ? IMAGE_PREDICTION_TYPES : NOISE_PREDICTION_TYPES);
  if (algorithmType !== 'sde-dpmsolver') return;
  const orders = Array.from({ length: steps }, (_, i) =>
    stepOrder(config, length - steps + i, length, i),
  );
  if (orders.includes(3)) {
    throw expected('1 or 2', 'solverOrder', solverOrder, 'sde-dpmsolver has no third order.');
  }
}

/** The solved quantity of one step: a form of the sample and one other tensor, both its own. */
class Model implements Disposable {
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

export class DPMSolverMultistepRun extends SigmaRun {
  readonly #config: DPMSolverMultistepConfig;
  readonly #models: History<Model>;

  constructor(
    schedule: ConstructorParameters<typeof SigmaRun>[0],
    timesteps: readonly number[],
    config: DPMSolverMultistepConfig,
  ) {
    super(schedule, timesteps);
    this.#config = config;
    this.#models = new History(config.solverOrder);
  }

  override addNoise(original: Tensor, noise: Tensor, timestep: number): Tensor {
    const round = (x: number) => roundTo(x, original.dtype);
    const ratio = round(this.sigmaAt(this.noiseIndex(timestep)));
    const norm = round(Math.sqrt(round(round(ratio ** 2) + 1)));
    const alpha = round(this.#config.useFlowSigmas ? 1 - ratio : 1 / norm);
    const sigma = this.#config.useFlowSigmas ? ratio : round(ratio * alpha);
    return evaluate(
      [
        [alpha, original],
        [sigma, noise],
      ],
      promote(original.dtype, noise.dtype),
    );
  }

  protected override unlistedIndex(): number {
    return this.length - 1;
  }

  protected update(
    modelOutput: Tensor,
    timestep: number,
    sample: Tensor,
    { generator, varianceNoise }: StepOptions,
  ): Tensor {
    const i = this.stepIndex(timestep);
    const order = stepOrder(this.#config, i, this.length, this.#models.entries.length);
    const { algorithmType: algorithm, solverType } = this.#config;
    const dtype = promote(sample.dtype, modelOutput.dtype);
    using scratch = new Scratch();
    const model = this.#convert(i, modelOutput, sample);
    this.#models.push(model);
    const noise = addsNoise(algorithm)
      ? (varianceNoise ?? scratch.own(drawNoise(model.output, 'float32', generator)))
      : undefined;
    const next = solverUpdate({
      algorithm,
      solverType,
      levels: Array.from({ length: order + 1 }, (_, k) => this.#level(i + 1 - k)),
      sample: model.sample,
      models: this.#models.entries.slice(0, order).map(({ form }) => form),
      noise,
    });
    const result = evaluate(next, dtype);
    this.advance();
    return result;
  }

  #level(index: number) {
    return noiseLevel(this.sigmaAt(index), this.#config.useFlowSigmas);
  }

  /** What the solver integrates, from what the network gave. */
  #convert(i: number, modelOutput: Tensor, sample: Tensor): Model {
    const { algorithmType, thresholding, varianceType } = this.#config;
    const level = this.#level(i);
    const x = sample.alias();
    // A learned variance follows the prediction in the channels.
    const output =
      isLearned(varianceType) && this.#config.predictionType === 'epsilon'
        ? narrow(modelOutput, 1, 0, 3)
        : modelOutput.alias();
    if (solvesForImage(algorithmType)) {
      const predictionType = supportedPrediction(this.#config, IMAGE_PREDICTION_TYPES);
      const image = predictedImage(predictionType, level, this.sigmaAt(i), x, output);
      if (!thresholding) return new Model(image, x, output);
      using _ = output;
      const bounded = this.#threshold(image);
      return new Model([[1, bounded]], x, bounded);
    }
    const predictionType = supportedPrediction(this.#config, NOISE_PREDICTION_TYPES);
    const noise = predictedNoise(predictionType, level, x, output);
    if (!thresholding) return new Model(noise, x, output);
    using _ = output;
    const bounded = this.#threshold(imageFromNoise(level, x, noise));
    return new Model(noiseFromImage(level, x, [[1, bounded]]), x, bounded);
  }

  #threshold(image: LinearForm<Tensor>): Tensor {
    const dtype = image.map(([, tensor]) => tensor.dtype).reduce(promote, 'float32');
    using predicted = evaluate(image, dtype);
    return dynamicThreshold(predicted, this.#config);
  }

  protected override release(): void {
    this.#models.clear();
  }
}
