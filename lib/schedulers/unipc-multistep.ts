/**
 * The unified predictor-corrector UniPC: each network pass also corrects the step before it.
 * https://arxiv.org/abs/2302.04867, algorithms 1 and 2
 *
 * The formulas of a step are in unipc-updates.ts.
 */

import { expected } from '../errors.js';
import type { Tensor } from '../tensor.js';
import type { Field, SchedulerConfig, SchedulerConfigInput, SchedulerOverrides } from './config.js';
import {
  choice,
  flag,
  integer,
  number,
  optional,
  readConfig,
  supportedPrediction,
} from './config.js';
import { History } from './history.js';
import { evaluate } from './linear-form.js';
import { makePositiveAlphasCumprod, makeSigmaTable } from './noise-schedule.js';
import { at } from './numerics.js';
import {
  checkStartOptions,
  type Scheduler,
  type StartOptions,
  skipTimesteps,
} from './scheduler.js';
import { sigmaFormula } from './sigmas.js';
import { SOLVER_FIELDS } from './solver-config.js';
import {
  IMAGE_PREDICTION_TYPES,
  imageModel,
  NOISE_PREDICTION_TYPES,
  noiseModel,
  type SolverModel,
} from './solver-model.js';
import { SolverRun } from './solver-run.js';
import type { SolverTables } from './solver-schedule.js';
import { TIMESTEP_SPACINGS } from './timesteps.js';
import { unipcSchedule } from './unipc-schedule.js';
import { type UniPCStep, unipcCorrector, unipcPredictor } from './unipc-updates.js';

/** Indices of steps, such as [0, 1]. */
const stepIndices: Field<readonly number[]> = {
  fallback: Object.freeze([]) as readonly number[],
  read: (value, name) => {
    const list: unknown[] | undefined = Array.isArray(value) ? value : undefined;
    if (list === undefined || !list.every(Number.isSafeInteger)) {
      throw expected('an array of whole numbers', name, value);
    }
    return Object.freeze([...list]) as readonly number[];
  },
};

/** diffusers takes another scheduler here, which no file can hold. */
const absent: Field<null> = {
  fallback: null,
  read: (value, name) => {
    if (value !== null) throw expected('null', name, value);
    return value;
  },
};

const FIELDS = {
  ...SOLVER_FIELDS,
  solverOrder: integer(2, { min: 1, max: 20 }),
  predictX0: flag(true),
  solverType: choice(['bh1', 'bh2'], 'bh2', { midpoint: 'bh2', heun: 'bh2', logrho: 'bh2' }),
  disableCorrector: stepIndices,
  solverP: absent,
  timestepSpacing: choice(TIMESTEP_SPACINGS, 'linspace'),
  stepsOffset: integer(0),
  finalSigmasType: choice(['zero', 'sigma_min'], 'zero'),
  rescaleBetasZeroSnr: flag(false),
  sigmaMin: optional(number(0)),
  sigmaMax: optional(number(0)),
  shiftTerminal: optional(number(0)),
} as const;

export type UniPCMultistepConfig = SchedulerConfig<typeof FIELDS>;

/** Predictor-corrector solver for few steps. */
export class UniPCMultistepScheduler implements Scheduler {
  /** The name of the class, which is that in diffusers. */
  static readonly className = 'UniPCMultistepScheduler';
  /** Whether `start` takes `timesteps` and `sigmas`. */
  static readonly customSchedules = { timesteps: false, sigmas: true } as const;
  readonly className = UniPCMultistepScheduler.className;
  readonly customSchedules = UniPCMultistepScheduler.customSchedules;
  readonly config: UniPCMultistepConfig;
  readonly #tables: SolverTables;

  /**
   * From a `scheduler_config.json`, or the `config` of another scheduler: fields that this class does
   * not have are passed over, missing ones take diffusers' defaults, and `overrides` come on top.
   *
   * @throws ERR_INVALID_ARGUMENT for an impossible value
   */
  static fromConfig(
    config: SchedulerConfigInput,
    overrides: SchedulerOverrides<typeof FIELDS> = {},
  ): UniPCMultistepScheduler {
    return new UniPCMultistepScheduler(
      readConfig(UniPCMultistepScheduler.className, FIELDS, config, overrides),
    );
  }

  private constructor(config: UniPCMultistepConfig) {
    sigmaFormula(config);
    const { shiftTerminal, useFlowSigmas } = config;
    if (shiftTerminal !== null && !useFlowSigmas) {
      throw expected('null', 'shiftTerminal', shiftTerminal, 'It needs useFlowSigmas: true.');
    }
    this.config = config;
    const alphasCumprod = makePositiveAlphasCumprod(config);
    this.#tables = { alphasCumprod, sigmas: makeSigmaTable(alphasCumprod) };
  }

  start(options: StartOptions): UniPCMultistepRun {
    const { config } = this;
    const request = checkStartOptions(options, this);
    const supported = config.predictX0 ? IMAGE_PREDICTION_TYPES : NOISE_PREDICTION_TYPES;
    supportedPrediction(config, supported);
    const { timesteps, sigmas } = unipcSchedule(config, this.#tables, request, options);
    checkEnd(config, timesteps.length);
    const count = request.kind === 'steps' ? request.numInferenceSteps : timesteps.length;
    const begin = skipTimesteps(timesteps, count, 1, options);
    return new UniPCMultistepRun({ begin, sigmas }, timesteps, config);
  }
}

/** What would divide by the final sigma, or by the infinite step to it. */
function checkEnd(config: UniPCMultistepConfig, length: number): void {
  const { finalSigmasType, lowerOrderFinal, predictX0, solverOrder } = config;
  if (finalSigmasType === 'sigma_min') return;
  const isFirstOrder = lowerOrderFinal || solverOrder === 1 || length === 1;
  if (predictX0 && isFirstOrder) return;
  const obstacle = predictX0 ? 'lowerOrderFinal: false' : 'predictX0: false';
  const hint = `With ${obstacle} the last step cannot end at no noise.`;
  throw expected('sigma_min', 'finalSigmasType', finalSigmasType, hint);
}

export class UniPCMultistepRun extends SolverRun {
  readonly #config: UniPCMultistepConfig;
  readonly #models: History<SolverModel>;
  /** The sample that the step before started from, corrected. */
  readonly #start = new History<Tensor>(1);
  /** Order of the step before. */
  #order = 0;

  constructor(
    schedule: ConstructorParameters<typeof SolverRun>[0],
    timesteps: readonly number[],
    config: UniPCMultistepConfig,
  ) {
    super(schedule, timesteps, config);
    this.#config = config;
    // One more, since a step is corrected with the prediction after it.
    this.#models = new History(config.solverOrder + 1);
  }

  protected update(modelOutput: Tensor, timestep: number, sample: Tensor): Tensor {
    const i = this.stepIndex(timestep);
    this.#models.push(this.#convert(i, modelOutput, sample));
    this.#start.push(this.#corrected(i, sample));

    const { lowerOrderFinal, solverOrder } = this.#config;
    const left = lowerOrderFinal ? this.length - i : solverOrder;
    this.#order = Math.min(solverOrder, left, this.#models.entries.length);
    const next = unipcPredictor({
      ...this.#step(this.#order),
      levels: this.levelsBack(i + 1, this.#order + 1),
      sample: at(this.#start.entries, 0),
    });
    const result = evaluate(next, sample.dtype);
    this.advance();
    return result;
  }

  /** The solved quantity, of the sample as it came. */
  #convert(i: number, modelOutput: Tensor, sample: Tensor): SolverModel {
    const config = this.#config;
    const inputs = { level: this.level(i), ratio: this.sigmaAt(i), sample, modelOutput };
    // Noise is not thresholded, neither here nor in diffusers.
    return config.predictX0
      ? imageModel({ ...inputs, config })
      : noiseModel({ ...inputs, config: { ...config, thresholding: false } });
  }

  /** The sample that the step before should have come to, now that its end is known. */
  #corrected(i: number, sample: Tensor): Tensor {
    const [start] = this.#start.entries;
    if (start === undefined || this.#config.disableCorrector.includes(i - 1)) {
      return sample.alias();
    }
    const corrected = unipcCorrector({
      ...this.#step(this.#order + 1),
      levels: this.levelsBack(i, this.#order + 1),
      sample: start,
    });
    return evaluate(corrected, sample.dtype);
  }

  #step(models: number): Pick<UniPCStep<Tensor>, 'forImage' | 'solverType' | 'models'> {
    const { predictX0, solverType } = this.#config;
    const forms = this.#models.entries.slice(0, models).map(({ form }) => form);
    return { forImage: predictX0, solverType, models: forms };
  }

  protected override release(): void {
    this.#models.clear();
    this.#start.clear();
  }
}
