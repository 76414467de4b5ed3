/**
 * Linear multistep method on the probability flow ODE.
 * k-diffusion's sample_lms, https://github.com/crowsonkb/k-diffusion
 */

import type { Tensor } from '../tensor.js';
import type { SchedulerConfig, SchedulerConfigInput, SchedulerOverrides } from './config.js';
import { readConfig, supportedPrediction } from './config.js';
import { denoised, derivative } from './euler-discrete.js';
import { History, KeptForm } from './history.js';
import { evaluate, type LinearForm, plus, promote, times } from './linear-form.js';
import { makeAlphasCumprod } from './noise-schedule.js';
import { at } from './numerics.js';
import { ScaledSigmaRun } from './run.js';
import { checkStepCount, type Scheduler, type StartOptions, skipTimesteps } from './scheduler.js';
import {
  makeSigmaTables,
  SIGMA_FIELDS,
  type SigmaTables,
  sigmaSchedule,
} from './sigma-schedule.js';
import { initialSigma, sigmaFormula } from './sigmas.js';

export type LMSDiscreteConfig = SchedulerConfig<typeof SIGMA_FIELDS>;
const PREDICTIONS = ['epsilon', 'sample', 'v_prediction'] as const;

const ORDER = 4;

/**
 * Weights of the derivatives at `levels`, newest first, in a step from the newest to `next`: the
 * integrals of the Lagrange polynomials. Their degree is three at most, for which Gauss's two
 * nodes are exact.
 */
export function lmsCoefficients(levels: readonly number[], next: number): number[] {
  const start = at(levels, 0);
  const centre = (start + next) / 2;
  const reach = (next - start) / 2 / Math.sqrt(3);
  return levels.map((level, j) => {
    const lagrange = (tau: number) =>
      levels.reduce((product, other, k) => {
        return k === j ? product : (product * (tau - other)) / (level - other);
      }, 1);
    return ((next - start) / 2) * (lagrange(centre - reach) + lagrange(centre + reach));
  });
}

/** Linear multistep method of order four. */
export class LMSDiscreteScheduler implements Scheduler {
  /** The name of the class, which is that in diffusers. */
  static readonly className = 'LMSDiscreteScheduler';
  /** Whether `start` takes `timesteps` and `sigmas`. */
  static readonly customSchedules = { timesteps: false, sigmas: false } as const;
  readonly className = LMSDiscreteScheduler.className;
  readonly customSchedules = LMSDiscreteScheduler.customSchedules;
  readonly config: LMSDiscreteConfig;
  readonly #tables: SigmaTables;

  /**
   * From a `scheduler_config.json`, or the `config` of another scheduler: fields that this class does
   * not have are passed over, missing ones take diffusers' defaults, and `overrides` come on top.
   *
   * @throws ERR_INVALID_ARGUMENT for an impossible value
   */
  static fromConfig(
    config: SchedulerConfigInput,
    overrides: SchedulerOverrides<typeof SIGMA_FIELDS> = {},
  ): LMSDiscreteScheduler {
    return new LMSDiscreteScheduler(
      readConfig(LMSDiscreteScheduler.className, SIGMA_FIELDS, config, overrides),
    );
  }

  private constructor(config: LMSDiscreteConfig) {
    sigmaFormula(config);
    this.config = config;
    this.#tables = makeSigmaTables(makeAlphasCumprod({ ...config, rescaleBetasZeroSnr: false }));
  }

  start(options: StartOptions): LMSDiscreteRun {
    const numInferenceSteps = checkStepCount(options, this);
    const request = { kind: 'steps', numInferenceSteps } as const;
    const schedule = sigmaSchedule(this.config, this.#tables, request, { karrasEnds: false });
    const timesteps = schedule.timesteps.map(Math.fround);
    const sigmas = [...schedule.levels, 0].map(Math.fround);
    const begin = skipTimesteps(timesteps, numInferenceSteps, 1, options);
    const initNoiseSigma = initialSigma(sigmas, this.config.timestepSpacing);
    return new LMSDiscreteRun({ begin, sigmas, initNoiseSigma }, timesteps, this.config);
  }
}

export class LMSDiscreteRun extends ScaledSigmaRun {
  readonly #predictionType: (typeof PREDICTIONS)[number];
  readonly #derivatives = new History<KeptForm>(ORDER);

  constructor(
    schedule: ConstructorParameters<typeof ScaledSigmaRun>[0],
    timesteps: readonly number[],
    config: LMSDiscreteConfig,
  ) {
    super(schedule, timesteps);
    this.#predictionType = supportedPrediction(config, PREDICTIONS);
  }

  protected update(modelOutput: Tensor, timestep: number, sample: Tensor): Tensor {
    const i = this.stepIndex(timestep);
    const sigma = this.sigmaAt(i);
    const x: LinearForm<Tensor> = [[1, sample]];
    const D = denoised(this.#predictionType, { sigma, sigmaHat: sigma }, x, modelOutput);
    const derivatives = [
      derivative(x, D, sigma),
      ...this.#derivatives.entries.map(({ form }) => form),
    ];
    // The order follows the place in the whole schedule. A run that begins further down has fewer
    // derivatives than that at first; the weights of those that are missing are dropped.
    const order = Math.min(i + 1, ORDER);
    const levels = Array.from({ length: order }, (_, k) => this.sigmaAt(i - k));
    const terms = lmsCoefficients(levels, this.sigmaAt(i + 1))
      .slice(0, derivatives.length)
      .map((weight, k) => times(weight, at(derivatives, k)));
    const result = evaluate(plus(x, ...terms), promote(sample.dtype, modelOutput.dtype));
    this.#derivatives.push(new KeptForm(at(derivatives, 0)));
    this.advance();
    return result;
  }

  protected override release(): void {
    this.#derivatives.clear();
  }
}
