/**
 * Ancestral sampling with second-order midpoint steps: a step further down than wanted, then fresh
 * noise up.
 * k-diffusion's sample_dpm_2_ancestral, https://github.com/crowsonkb/k-diffusion
 * Karras et al., algorithm 2: https://arxiv.org/abs/2206.00364
 */

import type { Tensor } from '../tensor.js';
import type { SchedulerConfig, SchedulerConfigInput, SchedulerOverrides } from './config.js';
import { readConfig, supportedPrediction } from './config.js';
import { denoised, derivative } from './euler-discrete.js';
import { History } from './history.js';
import { interleavedTimesteps, kdpm2Schedule } from './kdpm2-discrete.js';
import { evaluate, type LinearForm, plus, promote, times } from './linear-form.js';
import { makeAlphasCumprod } from './noise-schedule.js';
import { at, geometricMeanFloat32 } from './numerics.js';
import { ScaledSigmaRun } from './run.js';
import {
  checkStepCount,
  type Scheduler,
  type StartOptions,
  type StepOptions,
  skipTimesteps,
} from './scheduler.js';
import {
  doubled,
  makeSigmaTables,
  SECOND_ORDER_FIELDS,
  type SigmaTables,
} from './sigma-schedule.js';
import { initialSigma, sigmaFormula } from './sigmas.js';
import { drawNoise } from './step-noise.js';

export type KDPM2AncestralDiscreteConfig = SchedulerConfig<typeof SECOND_ORDER_FIELDS>;
const PREDICTIONS = ['epsilon', 'v_prediction'] as const;

/** Where one step goes. */
interface Descent {
  readonly sigmaUp: number;
  readonly sigmaDown: number;
  /** Geometric midpoint of the start and `sigmaDown`. */
  readonly midpoint: number;
}

/**
 * Variances of a step in float32, rounded as diffusers rounds them: in few steps σ_down is a
 * difference of nearly equal numbers, and the network is told the midpoint. Where nothing is left
 * of that difference and diffusers goes on with NaN, this takes the exact σ_down = σ_next²/σ.
 */
export function ancestralDescent(sigma: number, sigmaNext: number): Descent {
  const { fround, sqrt } = Math;
  if (sigmaNext === 0) return { sigmaUp: 0, sigmaDown: 0, midpoint: 0 };
  const variance = fround(sigma * sigma);
  const nextVariance = fround(sigmaNext * sigmaNext);
  const product = fround(nextVariance * fround(variance - nextVariance));
  const sigmaUp = fround(sqrt(fround(product / variance)));
  const rounded = fround(sqrt(fround(nextVariance - fround(sigmaUp * sigmaUp))));
  const sigmaDown = rounded > 0 ? rounded : sigmaNext ** 2 / sigma;
  return { sigmaUp, sigmaDown, midpoint: geometricMeanFloat32(sigma, sigmaDown) };
}

/** Midpoint steps with fresh noise after each. */
export class KDPM2AncestralDiscreteScheduler implements Scheduler {
  /** The name of the class, which is that in diffusers. */
  static readonly className = 'KDPM2AncestralDiscreteScheduler';
  /** Whether `start` takes `timesteps` and `sigmas`. */
  static readonly customSchedules = { timesteps: false, sigmas: false } as const;
  readonly className = KDPM2AncestralDiscreteScheduler.className;
  readonly customSchedules = KDPM2AncestralDiscreteScheduler.customSchedules;
  readonly config: KDPM2AncestralDiscreteConfig;
  readonly #tables: SigmaTables;

  /**
   * From a `scheduler_config.json`, or the `config` of another scheduler: fields that this class does
   * not have are passed over, missing ones take diffusers' defaults, and `overrides` come on top.
   *
   * @throws ERR_INVALID_ARGUMENT for an impossible value
   */
  static fromConfig(
    config: SchedulerConfigInput,
    overrides: SchedulerOverrides<typeof SECOND_ORDER_FIELDS> = {},
  ): KDPM2AncestralDiscreteScheduler {
    return new KDPM2AncestralDiscreteScheduler(
      readConfig(KDPM2AncestralDiscreteScheduler.className, SECOND_ORDER_FIELDS, config, overrides),
    );
  }

  private constructor(config: KDPM2AncestralDiscreteConfig) {
    sigmaFormula(config);
    this.config = config;
    this.#tables = makeSigmaTables(makeAlphasCumprod({ ...config, rescaleBetasZeroSnr: false }));
  }

  start(options: StartOptions): KDPM2AncestralDiscreteRun {
    const numInferenceSteps = checkStepCount(options, this);
    const { timesteps: steps, levels } = kdpm2Schedule(
      this.config,
      this.#tables,
      numInferenceSteps,
    );
    const descents = levels.slice(1).map((next, k) => ancestralDescent(at(levels, k), next));
    const midpoints = descents.map(({ midpoint }) => midpoint);
    const timesteps = interleavedTimesteps(steps, midpoints, this.#tables);
    const sigmas = [...doubled(levels), 0];
    const begin = skipTimesteps(timesteps, numInferenceSteps, 2, options);
    const initNoiseSigma = initialSigma(sigmas, this.config.timestepSpacing);
    const schedule = { begin, sigmas, initNoiseSigma, order: 2 };
    return new KDPM2AncestralDiscreteRun(schedule, { timesteps, descents }, this.config);
  }
}

export class KDPM2AncestralDiscreteRun extends ScaledSigmaRun {
  readonly #predictionType: (typeof PREDICTIONS)[number];
  readonly #descents: readonly Descent[];
  /** Between the evaluations of a step: the sample that it started from. */
  readonly #start = new History<Tensor>(1);

  constructor(
    schedule: ConstructorParameters<typeof ScaledSigmaRun>[0],
    lists: { readonly timesteps: readonly number[]; readonly descents: readonly Descent[] },
    config: KDPM2AncestralDiscreteConfig,
  ) {
    super(schedule, lists.timesteps);
    this.#predictionType = supportedPrediction(config, PREDICTIONS);
    this.#descents = lists.descents;
  }

  protected override inputSigma(i: number): number {
    return this.#start.entries.length === 0 ? this.sigmaAt(i) : this.#descent(i - 1).midpoint;
  }

  protected update(
    modelOutput: Tensor,
    timestep: number,
    sample: Tensor,
    { generator }: StepOptions,
  ): Tensor {
    const i = this.stepIndex(timestep);
    const [start] = this.#start.entries;
    const level = this.inputSigma(i);
    const x: LinearForm<Tensor> = [[1, sample]];
    const D = denoised(this.#predictionType, { sigma: level, sigmaHat: level }, x, modelOutput);
    const d = derivative(x, D, level);
    const dtype = promote(sample.dtype, modelOutput.dtype);
    if (start === undefined) {
      const halfway = plus(x, times(this.#descent(i).midpoint - level, d));
      const result = evaluate(halfway, dtype);
      this.#start.push(sample.alias());
      this.advance();
      return result;
    }
    const { sigmaDown, sigmaUp } = this.#descent(i - 1);
    using noise = drawNoise(modelOutput, modelOutput.dtype, generator);
    const down = plus([[1, start]], times(sigmaDown - this.sigmaAt(i - 1), d));
    const result = evaluate(plus(down, [[sigmaUp, noise]]), dtype);
    this.#start.clear();
    this.advance();
    return result;
  }

  /** The step that the `i`-th timestep is the first evaluation of. */
  #descent(i: number): Descent {
    return at(this.#descents, Math.ceil(i / 2));
  }

  protected override release(): void {
    this.#start.clear();
  }
}
