/**
 * Ancestral sampling with Euler steps: a step further down than wanted, then fresh noise up.
 * k-diffusion's sample_euler_ancestral, https://github.com/crowsonkb/k-diffusion
 * Variances: https://arxiv.org/abs/2006.11239
 */

import type { Tensor } from '../tensor.js';
import type { SchedulerConfig, SchedulerConfigInput, SchedulerOverrides } from './config.js';
import { choice, flag, integer, MODEL_FIELDS, readConfig, supportedPrediction } from './config.js';
import { denoised, eulerUpdate } from './euler-discrete.js';
import { evaluate, type LinearForm, plus } from './linear-form.js';
import { makePositiveAlphasCumprod } from './noise-schedule.js';
import { ScaledSigmaRun } from './run.js';
import {
  checkStepCount,
  type Scheduler,
  type StartOptions,
  type StepOptions,
  skipTimesteps,
} from './scheduler.js';
import { makeSigmaTables, type SigmaTables, spacedSchedule } from './sigma-schedule.js';
import { initialSigma } from './sigmas.js';
import { drawNoise } from './step-noise.js';
import { TIMESTEP_SPACINGS } from './timesteps.js';

const FIELDS = {
  ...MODEL_FIELDS,
  timestepSpacing: choice(TIMESTEP_SPACINGS, 'linspace'),
  stepsOffset: integer(0),
  rescaleBetasZeroSnr: flag(false),
} as const;

export type EulerAncestralDiscreteConfig = SchedulerConfig<typeof FIELDS>;
const PREDICTIONS = ['epsilon', 'v_prediction'] as const;

/** How far down to step, and how much noise to add, to land at σ_to. */
export function ancestralStep(sigmaFrom: number, sigmaTo: number) {
  const variance = (sigmaTo ** 2 * (sigmaFrom ** 2 - sigmaTo ** 2)) / sigmaFrom ** 2;
  return {
    sigmaUp: Math.sqrt(variance),
    sigmaDown: Math.sqrt(Math.max(sigmaTo ** 2 - variance, 0)),
  };
}

/** Euler steps with fresh noise after each. */
export class EulerAncestralDiscreteScheduler implements Scheduler {
  /** The name of the class, which is that in diffusers. */
  static readonly className = 'EulerAncestralDiscreteScheduler';
  /** Whether `start` takes `timesteps` and `sigmas`. */
  static readonly customSchedules = { timesteps: false, sigmas: false } as const;
  readonly className = EulerAncestralDiscreteScheduler.className;
  readonly customSchedules = EulerAncestralDiscreteScheduler.customSchedules;
  readonly config: EulerAncestralDiscreteConfig;
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
  ): EulerAncestralDiscreteScheduler {
    return new EulerAncestralDiscreteScheduler(
      readConfig(EulerAncestralDiscreteScheduler.className, FIELDS, config, overrides),
    );
  }

  private constructor(config: EulerAncestralDiscreteConfig) {
    this.config = config;
    this.#tables = makeSigmaTables(makePositiveAlphasCumprod(config));
  }

  start(options: StartOptions): EulerAncestralDiscreteRun {
    const numInferenceSteps = checkStepCount(options, this);
    const request = { kind: 'steps', numInferenceSteps } as const;
    const { timesteps, levels } = spacedSchedule(this.config, this.#tables, request);
    const sigmas = [...levels, 0].map(Math.fround);
    const begin = skipTimesteps(timesteps, numInferenceSteps, 1, options);
    const initNoiseSigma = initialSigma(sigmas, this.config.timestepSpacing);
    return new EulerAncestralDiscreteRun({ begin, sigmas, initNoiseSigma }, timesteps, this.config);
  }
}

export class EulerAncestralDiscreteRun extends ScaledSigmaRun {
  readonly #predictionType: (typeof PREDICTIONS)[number];

  constructor(
    schedule: ConstructorParameters<typeof ScaledSigmaRun>[0],
    timesteps: readonly number[],
    config: EulerAncestralDiscreteConfig,
  ) {
    super(schedule, timesteps);
    this.#predictionType = supportedPrediction(config, PREDICTIONS);
  }

  protected update(
    modelOutput: Tensor,
    timestep: number,
    sample: Tensor,
    { generator }: StepOptions,
  ): Tensor {
    const i = this.stepIndex(timestep);
    const sigma = this.sigmaAt(i);
    const { sigmaUp, sigmaDown } = ancestralStep(sigma, this.sigmaAt(i + 1));
    const x: LinearForm<Tensor> = [[1, sample]];
    const D = denoised(this.#predictionType, { sigma, sigmaHat: sigma }, x, modelOutput);
    const down = eulerUpdate(x, D, sigma, sigmaDown);
    // Drawn even in the last step, which adds none of it: it moves the generator on.
    using noise = drawNoise(modelOutput, modelOutput.dtype, generator);
    const result = evaluate(plus(down, [[sigmaUp, noise]]), modelOutput.dtype);
    this.advance();
    return result;
  }
}
