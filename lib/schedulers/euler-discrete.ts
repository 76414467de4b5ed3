/**
 * Euler's method on the probability flow ODE.
 * Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models", algorithm 2
 * https://arxiv.org/abs/2206.00364
 */

import { expected } from '../errors.js';
import type { Tensor } from '../tensor.js';
import type { SchedulerConfig, SchedulerConfigInput, SchedulerOverrides } from './config.js';
import { choice, flag, number, optional, readConfig, supportedPrediction } from './config.js';
import { evaluate, type LinearForm, minus, plus, times } from './linear-form.js';
import { makePositiveAlphasCumprod } from './noise-schedule.js';
import { at, linspaceFloat32 } from './numerics.js';
import { ScaledSigmaRun } from './run.js';
import {
  checkStartOptions,
  type ScheduleRequest,
  type Scheduler,
  type StartOptions,
  type StepOptions,
  skipTimesteps,
} from './scheduler.js';
import {
  makeSigmaTables,
  SIGMA_FIELDS,
  type SigmaTables,
  spacedSchedule,
  withFormula,
} from './sigma-schedule.js';
import { initialSigma, sigmaFormula, sigmaToT } from './sigmas.js';
import { drawNoise } from './step-noise.js';

const FIELDS = {
  ...SIGMA_FIELDS,
  interpolationType: choice(['linear', 'log_linear'], 'linear'),
  sigmaMin: optional(number(0)),
  sigmaMax: optional(number(0)),
  timestepType: choice(['discrete', 'continuous'], 'discrete'),
  rescaleBetasZeroSnr: flag(false),
  finalSigmasType: choice(['zero', 'sigma_min'], 'zero'),
} as const;

export type EulerDiscreteConfig = SchedulerConfig<typeof FIELDS>;
// original_sample is an older name of sample.
const PREDICTIONS = ['epsilon', 'sample', 'original_sample', 'v_prediction'] as const;
export type EulerPredictionType = (typeof PREDICTIONS)[number];

/** D(x; σ): the predicted image. `sigmaHat` is the level of x, σ the one the network was told. */
export function denoised<T>(
  predictionType: EulerPredictionType,
  { sigma, sigmaHat }: { readonly sigma: number; readonly sigmaHat: number },
  x: LinearForm<T>,
  modelOutput: T,
): LinearForm<T> {
  const output: LinearForm<T> = [[1, modelOutput]];
  switch (predictionType) {
    case 'epsilon':
      return minus(x, times(sigmaHat, output));
    case 'v_prediction':
      return plus(
        times(-sigma / Math.sqrt(sigma ** 2 + 1), output),
        times(1 / (sigma ** 2 + 1), x),
      );
    default:
      return output;
  }
}

/** dx/dσ = (x − D)/σ: where the probability flow leads. */
export function derivative<T>(x: LinearForm<T>, D: LinearForm<T>, sigma: number): LinearForm<T> {
  return times(1 / sigma, minus(x, D));
}

/** x + (x − D)/σ̂ · (σ_next − σ̂) */
export function eulerUpdate<T>(
  x: LinearForm<T>,
  D: LinearForm<T>,
  sigmaHat: number,
  sigmaNext: number,
): LinearForm<T> {
  return plus(x, times(sigmaNext - sigmaHat, derivative(x, D, sigmaHat)));
}

/** Euler steps, deterministic unless `sChurn` adds noise. */
export class EulerDiscreteScheduler implements Scheduler {
  /** The name of the class, which is that in diffusers. */
  static readonly className = 'EulerDiscreteScheduler';
  /** Whether `start` takes `timesteps` and `sigmas`. */
  static readonly customSchedules = { timesteps: true, sigmas: true } as const;
  readonly className = EulerDiscreteScheduler.className;
  readonly customSchedules = EulerDiscreteScheduler.customSchedules;
  readonly config: EulerDiscreteConfig;
  readonly #tables: SigmaTables;

  /**
   * From a `scheduler_config.json`, or the `config` of another scheduler: fields that this class does
   * not have are passed over, missing ones take diffusers' defaults, and `overrides` come on top.
   *
   * @throws ERR_INVALID_ARGUMENT for an impossible value
   */
  static fromConfig(
    config: SchedulerConfigInput,
    overrides: SchedulerOverrides<typeof FIELDS> = {},
  ): EulerDiscreteScheduler {
    return new EulerDiscreteScheduler(
      readConfig(EulerDiscreteScheduler.className, FIELDS, config, overrides),
    );
  }

  private constructor(config: EulerDiscreteConfig) {
    sigmaFormula(config);
    this.config = config;
    this.#tables = makeSigmaTables(makePositiveAlphasCumprod(config));
  }

  start(options: StartOptions): EulerDiscreteRun {
    const request = checkStartOptions(options, this);
    const { timesteps, sigmas } = this.#schedule(request);
    const count = request.kind === 'steps' ? request.numInferenceSteps : timesteps.length;
    const begin = skipTimesteps(timesteps, count, 1, options);
    const initNoiseSigma = initialSigma(sigmas, this.config.timestepSpacing);
    return new EulerDiscreteRun({ begin, sigmas, initNoiseSigma }, timesteps, this.config);
  }

  #schedule(request: ScheduleRequest): { timesteps: number[]; sigmas: number[] } {
    const { predictionType, timestepType } = this.config;
    const continuous = timestepType === 'continuous' && predictionType === 'v_prediction';
    if (request.kind === 'timesteps') this.#checkTimesteps(request.timesteps, continuous);

    const { timesteps, sigmas } =
      request.kind === 'sigmas' ? this.#custom(request.sigmas) : this.#spaced(request);
    const rounded = sigmas.map(Math.fround);
    if (!continuous) return { timesteps: timesteps.map(Math.fround), sigmas: rounded };
    // The network is told ¼ ln σ instead of a position among the training timesteps.
    const told = rounded
      .slice(0, -1)
      .map((sigma) => Math.fround(0.25 * Math.fround(Math.log(sigma))));
    return { timesteps: told, sigmas: rounded };
  }

  #checkTimesteps(timesteps: readonly number[], continuous: boolean): void {
    const formula = sigmaFormula(this.config);
    if (formula === undefined && !continuous) return;
    const obstacle = formula ?? "timestepType 'continuous'";
    const hint = `Custom timesteps do not go with ${obstacle}.`;
    throw expected('numInferenceSteps or sigmas', 'timesteps', timesteps, hint);
  }

  #custom(sigmas: readonly number[]) {
    const timesteps = sigmas
      .slice(0, -1)
      .map((sigma) => sigmaToT(sigma, this.#tables.logSigmas, { float32: true }));
    return { timesteps, sigmas: [...sigmas] };
  }

  #spaced(request: Exclude<ScheduleRequest, { kind: 'sigmas' }>) {
    const { sigmas: table, logSigmas } = this.#tables;
    const spaced = spacedSchedule(this.config, this.#tables, request);
    const count = spaced.timesteps.length + 1;
    const levels =
      this.config.interpolationType === 'linear'
        ? spaced.levels
        : Array.from(linspaceFloat32(at(logSigmas, -1), at(logSigmas, 0), count), (log) =>
            Math.fround(Math.exp(log)),
          );
    const schedule = withFormula(this.config, this.#tables, { ...spaced, levels });
    const last = this.config.finalSigmasType === 'zero' ? 0 : at(table, 0);
    return { timesteps: schedule.timesteps, sigmas: [...schedule.levels, last] };
  }
}

export class EulerDiscreteRun extends ScaledSigmaRun {
  readonly #predictionType: EulerPredictionType;

  constructor(
    schedule: ConstructorParameters<typeof ScaledSigmaRun>[0],
    timesteps: readonly number[],
    config: EulerDiscreteConfig,
  ) {
    super(schedule, timesteps);
    this.#predictionType = supportedPrediction(config, PREDICTIONS);
  }

  protected update(
    modelOutput: Tensor,
    timestep: number,
    sample: Tensor,
    options: StepOptions,
  ): Tensor {
    const { sChurn = 0, sTmin = 0, sTmax = Number.POSITIVE_INFINITY, sNoise = 1 } = options;
    const i = this.stepIndex(timestep);
    const sigma = this.sigmaAt(i);
    const churned = sTmin <= sigma && sigma <= sTmax;
    const gamma = churned ? Math.min(sChurn / (this.sigmaCount - 1), Math.SQRT2 - 1) : 0;
    const sigmaHat = sigma * (1 + gamma);
    const noise =
      gamma > 0 ? drawNoise(modelOutput, modelOutput.dtype, options.generator) : undefined;
    try {
      let x: LinearForm<Tensor> = [[1, sample]];
      if (noise) x = plus(x, [[sNoise * Math.sqrt(sigmaHat ** 2 - sigma ** 2), noise]]);
      const D = denoised(this.#predictionType, { sigma, sigmaHat }, x, modelOutput);
      const next = eulerUpdate(x, D, sigmaHat, this.sigmaAt(i + 1));
      const result = evaluate(next, modelOutput.dtype);
      this.advance();
      return result;
    } finally {
      noise?.dispose();
    }
  }
}
