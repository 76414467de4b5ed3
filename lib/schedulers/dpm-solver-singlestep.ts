/**
 * Singlestep DPM-Solver and DPM-Solver++: Runge-Kutta methods, in which each second or third
 * evaluation redoes the whole stretch since the first.
 * DPM-Solver: https://arxiv.org/abs/2206.00927, algorithms 1 and 2
 * DPM-Solver++: https://arxiv.org/abs/2211.01095, algorithm 1
 */

import { Scratch } from '../scratch.js';
import type { Tensor } from '../tensor.js';
import type { SchedulerConfig, SchedulerConfigInput, SchedulerOverrides } from './config.js';
import { choice, flag, readConfig } from './config.js';
import { checkFinalSigma, checkPrediction, DPM_FIELDS, dpmModel } from './dpm-solver.js';
import { addsNoise, exponentials, psi1, psi2, type SolverUpdate } from './dpm-solver-updates.js';
import { History } from './history.js';
import { evaluate, type LinearForm, minus, plus, promote, times } from './linear-form.js';
import { makeAlphasCumprod, makeSigmaTable } from './noise-schedule.js';
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
import { PLAIN_SCHEDULE, type SolverTables, solverSchedule } from './solver-schedule.js';
import { drawNoise } from './step-noise.js';

const FIELDS = {
  ...DPM_FIELDS,
  solverOrder: choice([1, 2, 3], 2),
  algorithmType: choice(['dpmsolver', 'dpmsolver++', 'sde-dpmsolver++'], 'dpmsolver++', {
    deis: 'dpmsolver++',
  }),
  lowerOrderFinal: flag(false),
} as const;

export type DPMSolverSinglestepConfig = SchedulerConfig<typeof FIELDS>;

/**
 * One evaluation of first, second or third order. `levels` are the one to step to, the current one
 * and the earlier ones; `sample` is the one at the earliest level.
 */
export function singlestepUpdate<T>(update: SolverUpdate<T>): LinearForm<T> {
  const { algorithm, solverType, levels, models } = update;
  const t = at(levels, 0);
  const s = at(levels, -1);
  const { h, a, w, k, n } = exponentials(algorithm, t, s);
  const D0 = at(models, -1);
  const noise: LinearForm<T> = update.noise === undefined ? [] : [[n, update.noise]];
  const first = plus([[a, update.sample]], times(w * Math.expm1(k), D0), noise);
  if (models.length === 1) return first;

  // Slopes from the start of the stretch to its later evaluations.
  const r0 = (at(levels, 1).lambda - s.lambda) / h;
  const D1_0 = times(1 / r0, minus(at(models, 0), D0));
  if (models.length === 2) {
    const c = solverType === 'midpoint' ? 0.5 * Math.expm1(k) : psi1(k);
    return plus(first, times(w * c, D1_0));
  }
  if (solverType === 'midpoint') return plus(first, times(w * psi1(k), D1_0));
  const r1 = (at(levels, 2).lambda - s.lambda) / h;
  const D1_1 = times(1 / r1, minus(at(models, 1), D0));
  const D1 = times(1 / (r0 - r1), minus(times(r0, D1_1), times(r1, D1_0)));
  const D2 = times(2 / (r0 - r1), minus(D1_0, D1_1));
  // The stochastic solver of diffusers has ½ with the other sign here; pictures depend on it.
  const c2 = algorithm === 'sde-dpmsolver++' ? psi2(k) + 1 : psi2(k);
  return plus(first, times(w * psi1(k), D1), times(w * c2, D2));
}

/** The order of each of `count` steps: ascending stretches, cut short at the end. */
export function singlestepOrders(
  count: number,
  {
    solverOrder,
    lowerOrderFinal,
    finalSigmasType,
  }: Pick<DPMSolverSinglestepConfig, 'solverOrder' | 'lowerOrderFinal' | 'finalSigmasType'>,
): number[] {
  const orders = Array.from({ length: count }, (_, i) => (i % solverOrder) + 1);
  const isWhole = count % solverOrder === 0;
  // An end at no noise allows first order only, and a stretch that is cut short ends the same way.
  if (!lowerOrderFinal && isWhole && finalSigmasType === 'sigma_min') return orders;
  if (isWhole || finalSigmasType === 'zero') orders[count - 1] = 1;
  return orders;
}

/** High-order solver that needs no history, for few steps. */
export class DPMSolverSinglestepScheduler implements Scheduler {
  /** The name of the class, which is that in diffusers. */
  static readonly className = 'DPMSolverSinglestepScheduler';
  /** Whether `start` takes `timesteps` and `sigmas`. */
  static readonly customSchedules = { timesteps: true, sigmas: false } as const;
  readonly className = DPMSolverSinglestepScheduler.className;
  readonly customSchedules = DPMSolverSinglestepScheduler.customSchedules;
  readonly config: DPMSolverSinglestepConfig;
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
  ): DPMSolverSinglestepScheduler {
    return new DPMSolverSinglestepScheduler(
      readConfig(DPMSolverSinglestepScheduler.className, FIELDS, config, overrides),
    );
  }

  private constructor(config: DPMSolverSinglestepConfig) {
    sigmaFormula(config);
    checkFinalSigma(config);
    this.config = config;
    const alphasCumprod = makeAlphasCumprod({ ...config, rescaleBetasZeroSnr: false });
    this.#tables = { alphasCumprod, sigmas: makeSigmaTable(alphasCumprod) };
  }

  start(options: StartOptions): DPMSolverSinglestepRun {
    const { config } = this;
    const request = checkStartOptions(options, this);
    checkPrediction(config);
    const { lambdaMinClipped } = config;
    const { timesteps, levels } = solverSchedule(
      {
        ...config,
        ...PLAIN_SCHEDULE,
        lambdaMinClipped,
        flowShift: runFlowShift(config, options),
        timestepSpacing: 'linspace',
        stepsOffset: 0,
      },
      this.#tables,
      request,
    );
    const last = config.finalSigmasType === 'zero' ? 0 : at(this.#tables.sigmas, 0);
    const sigmas = [...levels, last].map(Math.fround);
    const begin = skipTimesteps(timesteps, timesteps.length, 1, options);
    return new DPMSolverSinglestepRun({ begin, sigmas }, timesteps, config);
  }
}

export class DPMSolverSinglestepRun extends SolverRun {
  readonly #config: DPMSolverSinglestepConfig;
  readonly #orders: readonly number[];
  readonly #models: History<SolverModel>;

  constructor(
    schedule: ConstructorParameters<typeof SolverRun>[0],
    timesteps: readonly number[],
    config: DPMSolverSinglestepConfig,
  ) {
    super(schedule, timesteps, config);
    this.#config = config;
    this.#orders = singlestepOrders(timesteps.length, config);
    this.#models = new History(config.solverOrder);
  }

  protected update(
    modelOutput: Tensor,
    timestep: number,
    sample: Tensor,
    { generator, varianceNoise }: StepOptions,
  ): Tensor {
    const i = this.stepIndex(timestep);
    const config = this.#config;
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
    // A run that begins within a stretch has no more of it than this.
    const order = Math.min(at(this.#orders, i), this.#models.entries.length);
    const models = this.#models.entries.slice(0, order);
    const noise = addsNoise(config.algorithmType)
      ? (varianceNoise ?? scratch.own(drawNoise(model.output, dtype, generator)))
      : undefined;
    const next = singlestepUpdate({
      algorithm: config.algorithmType,
      solverType: config.solverType,
      levels: this.levelsBack(i + 1, order + 1),
      sample: at(models, -1).sample,
      models: models.map(({ form }) => form),
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
