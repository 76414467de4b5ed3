/**
 * Multistep DPM-Solver and DPM-Solver++, deterministic and stochastic.
 * DPM-Solver: https://arxiv.org/abs/2206.00927
 * DPM-Solver++: https://arxiv.org/abs/2211.01095
 *
 * The formulas of a step are in dpm-solver-updates.ts.
 */

import { expected } from '../errors.js';
import { Scratch } from '../scratch.js';
import type { Tensor } from '../tensor.js';
import type { SchedulerConfig, SchedulerConfigInput, SchedulerOverrides } from './config.js';
import { choice, flag, integer, readConfig } from './config.js';
import { checkFinalSigma, checkPrediction, DPM_FIELDS, dpmModel } from './dpm-solver.js';
import { addsNoise, DPM_ALGORITHMS, solverUpdate } from './dpm-solver-updates.js';
import { History } from './history.js';
import { evaluate, promote } from './linear-form.js';
import { makePositiveAlphasCumprod, makeSigmaTable } from './noise-schedule.js';
import { at } from './numerics.js';
import {
  checkStartOptions,
  type Scheduler,
  type StartOptions,
  type StepOptions,
  skipTimesteps,
} from './scheduler.js';
import { sigmaFormula } from './sigmas.js';
import { runFlowShift } from './solver-config.js';
import type { SolverModel } from './solver-model.js';
import { SolverRun } from './solver-run.js';
import { FEW_STEPS, type SolverTables, solverSchedule } from './solver-schedule.js';
import { drawNoise } from './step-noise.js';
import { TIMESTEP_SPACINGS } from './timesteps.js';

const FIELDS = {
  ...DPM_FIELDS,
  // Above 3 means 3.
  solverOrder: integer(2, { min: 1 }),
  algorithmType: choice(DPM_ALGORITHMS, 'dpmsolver++', { deis: 'dpmsolver++' }),
  eulerAtFinal: flag(false),
  useLuLambdas: flag(false),
  timestepSpacing: choice(TIMESTEP_SPACINGS, 'linspace'),
  stepsOffset: integer(0),
  rescaleBetasZeroSnr: flag(false),
} as const;

export type DPMSolverMultistepConfig = SchedulerConfig<typeof FIELDS>;

const MAX_ORDER = 3;

/** High-order solver for few steps. */
export class DPMSolverMultistepScheduler implements Scheduler {
  /** The name of the class, which is that in diffusers. */
  static readonly className = 'DPMSolverMultistepScheduler';
  /** Whether `start` takes `timesteps` and `sigmas`. */
  static readonly customSchedules = { timesteps: true, sigmas: false } as const;
  readonly className = DPMSolverMultistepScheduler.className;
  readonly customSchedules = DPMSolverMultistepScheduler.customSchedules;
  readonly config: DPMSolverMultistepConfig;
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
  ): DPMSolverMultistepScheduler {
    return new DPMSolverMultistepScheduler(
      readConfig(DPMSolverMultistepScheduler.className, FIELDS, config, overrides),
    );
  }

  private constructor(config: DPMSolverMultistepConfig) {
    sigmaFormula(config);
    checkFinalSigma(config);
    this.config = config;
    const alphasCumprod = makePositiveAlphasCumprod(config);
    this.#tables = { alphasCumprod, sigmas: makeSigmaTable(alphasCumprod) };
  }

  start(options: StartOptions): DPMSolverMultistepRun {
    const request = checkStartOptions(options, this);
    const flowShift = runFlowShift(this.config, options);
    const { timesteps, levels } = solverSchedule(
      {
        ...this.config,
        flowShift,
        // The cosine schedule is trained with fractional timesteps as well.
        roundsTimesteps: this.config.betaSchedule !== 'squaredcos_cap_v2',
      },
      this.#tables,
      request,
    );
    const last = this.config.finalSigmasType === 'zero' ? 0 : at(this.#tables.sigmas, 0);
    const sigmas = [...levels, last].map(Math.fround);
    const count = request.kind === 'steps' ? request.numInferenceSteps : timesteps.length;
    const begin = skipTimesteps(timesteps, count, 1, options);
    checkSolver(this.config, timesteps.length, begin.timesteps.length);
    return new DPMSolverMultistepRun({ begin, sigmas }, timesteps, this.config);
  }
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
  const reachable = Math.min(solverOrder, MAX_ORDER, history + 1);
  if (left === 1 && (eulerAtFinal || few || finalSigmasType === 'zero')) return 1;
  return left === 2 && few ? Math.min(reachable, 2) : reachable;
}

/** What has no formula. */
function checkSolver(config: DPMSolverMultistepConfig, length: number, steps: number): void {
  const { algorithmType, solverOrder } = config;
  checkPrediction(config);
  if (algorithmType !== 'sde-dpmsolver') return;
  const orders = Array.from({ length: steps }, (_, i) =>
    stepOrder(config, length - steps + i, length, i),
  );
  if (orders.includes(3)) {
    throw expected('1 or 2', 'solverOrder', solverOrder, 'sde-dpmsolver has no third order.');
  }
}

export class DPMSolverMultistepRun extends SolverRun {
  readonly #config: DPMSolverMultistepConfig;
  readonly #models: History<SolverModel>;

  constructor(
    schedule: ConstructorParameters<typeof SolverRun>[0],
    timesteps: readonly number[],
    config: DPMSolverMultistepConfig,
  ) {
    super(schedule, timesteps, config);
    this.#config = config;
    this.#models = new History(MAX_ORDER);
  }

  protected update(
    modelOutput: Tensor,
    timestep: number,
    sample: Tensor,
    { generator, varianceNoise }: StepOptions,
  ): Tensor {
    const i = this.stepIndex(timestep);
    const config = this.#config;
    const order = stepOrder(config, i, this.length, this.#models.entries.length);
    const dtype = promote(sample.dtype, modelOutput.dtype);
    using scratch = new Scratch();
    const model = dpmModel({
      config,
      level: this.level(i),
      ratio: this.sigmaAt(i),
      sample,
      modelOutput,
    });
    this.#models.push(model);
    const noise = addsNoise(config.algorithmType)
      ? (varianceNoise ?? scratch.own(drawNoise(model.output, 'float32', generator)))
      : undefined;
    const next = solverUpdate({
      algorithm: config.algorithmType,
      solverType: config.solverType,
      levels: this.levelsBack(i + 1, order + 1),
      sample: model.sample,
      models: this.#models.entries.slice(0, order).map(({ form }) => form),
      noise,
    });
    const result = evaluate(next, dtype);
    this.advance();
    return result;
  }

  protected override release(): void {
    this.#models.clear();
  }
}
