/**
 * Stochastic midpoint solver of the diffusion SDE.
 * k-diffusion's sample_dpmpp_sde, https://github.com/crowsonkb/k-diffusion
 * DPM-Solver: https://arxiv.org/abs/2206.00927, algorithm 1
 */

import { Generator } from '../generator.js';
import type { Tensor } from '../tensor.js';
import type { SchedulerConfig, SchedulerConfigInput, SchedulerOverrides } from './config.js';
import { optional, readConfig, seed, supportedPrediction } from './config.js';
import { ancestralStep } from './euler-ancestral-discrete.js';
import { denoised, eulerUpdate } from './euler-discrete.js';
import { History } from './history.js';
import { evaluate, type LinearForm, plus, promote, times } from './linear-form.js';
import { makeAlphasCumprod } from './noise-schedule.js';
import { at } from './numerics.js';
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
  sigmaSchedule,
} from './sigma-schedule.js';
import { initialSigma, sigmaFormula, sigmaToT } from './sigmas.js';
import { drawNoise } from './step-noise.js';

const FIELDS = {
  ...SECOND_ORDER_FIELDS,
  noiseSamplerSeed: optional(seed),
} as const;

export type DPMSolverSDEConfig = SchedulerConfig<typeof FIELDS>;
const PREDICTIONS = ['epsilon', 'v_prediction'] as const;

/** The level halfway in λ = −ln σ. */
const midpoint = (sigma: number, sigmaNext: number): number => Math.sqrt(sigma * sigmaNext);

/**
 * Shares of two independent standard normal draws in the noise of a whole step: a Brownian path
 * from σ to σ_next passes through the midpoint, so its first half is the noise that was used there.
 */
export function brownianShares(sigma: number, sigmaNext: number) {
  const length = sigma - sigmaNext;
  const share = length > 0 ? (sigma - midpoint(sigma, sigmaNext)) / length : 1;
  return { firstHalf: Math.sqrt(share), secondHalf: Math.sqrt(1 - share) };
}

/** Steps by the image predicted at the midpoint, with noise from one Brownian path. */
export class DPMSolverSDEScheduler implements Scheduler {
  /** The name of the class, which is that in diffusers. */
  static readonly className = 'DPMSolverSDEScheduler';
  /** Whether `start` takes `timesteps` and `sigmas`. */
  static readonly customSchedules = { timesteps: false, sigmas: false } as const;
  readonly className = DPMSolverSDEScheduler.className;
  readonly customSchedules = DPMSolverSDEScheduler.customSchedules;
  readonly config: DPMSolverSDEConfig;
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
  ): DPMSolverSDEScheduler {
    return new DPMSolverSDEScheduler(
      readConfig(DPMSolverSDEScheduler.className, FIELDS, config, overrides),
    );
  }

  private constructor(config: DPMSolverSDEConfig) {
    sigmaFormula(config);
    this.config = config;
    this.#tables = makeSigmaTables(makeAlphasCumprod({ ...config, rescaleBetasZeroSnr: false }));
  }

  start(options: StartOptions): DPMSolverSDERun {
    const numInferenceSteps = checkStepCount(options, this);
    const request = { kind: 'steps', numInferenceSteps } as const;
    const { timesteps: steps, levels } = sigmaSchedule(this.config, this.#tables, request, {
      round: (timestep) => timestep,
      karrasEnds: false,
    });
    const timesteps = doubled(steps);
    for (const [k, sigma] of levels.slice(1).entries()) {
      timesteps[2 * k + 1] = sigmaToT(midpoint(at(levels, k), sigma), this.#tables.logSigmas);
    }
    const sigmas = [...doubled(levels), 0].map(Math.fround);
    const begin = skipTimesteps(timesteps, numInferenceSteps, 2, options);
    const initNoiseSigma = initialSigma(sigmas, this.config.timestepSpacing);
    return new DPMSolverSDERun({ begin, sigmas, initNoiseSigma, order: 2 }, timesteps, this.config);
  }
}

/** What the second evaluation of a step needs from the first. */
class Start implements Disposable {
  constructor(
    readonly sample: Tensor,
    readonly noise: Tensor,
  ) {}

  [Symbol.dispose](): void {
    this.sample.dispose();
    this.noise.dispose();
  }
}

export class DPMSolverSDERun extends ScaledSigmaRun {
  readonly #predictionType: (typeof PREDICTIONS)[number];
  /** Where the configuration names a seed, which then decides alone, as in diffusers. */
  readonly #generator: Generator | undefined;
  readonly #start = new History<Start>(1);

  constructor(
    schedule: ConstructorParameters<typeof ScaledSigmaRun>[0],
    timesteps: readonly number[],
    config: DPMSolverSDEConfig,
  ) {
    super(schedule, timesteps);
    this.#predictionType = supportedPrediction(config, PREDICTIONS);
    const { noiseSamplerSeed } = config;
    if (noiseSamplerSeed !== null) this.#generator = new Generator().manualSeed(noiseSamplerSeed);
  }

  protected override inputSigma(i: number): number {
    const inStep = this.#start.entries.length > 0;
    return inStep ? midpoint(this.sigmaAt(i - 1), this.sigmaAt(i)) : this.sigmaAt(i);
  }

  protected update(
    modelOutput: Tensor,
    timestep: number,
    sample: Tensor,
    { generator, sNoise = 1 }: StepOptions,
  ): Tensor {
    const i = this.stepIndex(timestep);
    const [start] = this.#start.entries;
    const level = this.inputSigma(i);
    const sigma = start ? this.sigmaAt(i - 1) : level;
    const sigmaNext = this.sigmaAt(start ? i : i + 1);
    const dtype = promote(sample.dtype, modelOutput.dtype);
    const x: LinearForm<Tensor> = [[1, sample]];
    const D = denoised(this.#predictionType, { sigma: level, sigmaHat: level }, x, modelOutput);
    if (sigmaNext === 0) {
      const result = evaluate(eulerUpdate(x, D, sigma, 0), dtype);
      this.advance();
      return result;
    }
    using drawn = drawNoise(sample, 'float32', this.#generator ?? generator);
    const { firstHalf, secondHalf } = brownianShares(sigma, sigmaNext);
    const noise: LinearForm<Tensor> = start
      ? plus([[firstHalf, start.noise]], [[secondHalf, drawn]])
      : [[1, drawn]];
    const target = start ? sigmaNext : midpoint(sigma, sigmaNext);
    const { sigmaUp, sigmaDown } = ancestralStep(sigma, target);
    const down = eulerUpdate([[1, start?.sample ?? sample]], D, sigma, sigmaDown);
    const result = evaluate(plus(down, times(sNoise * sigmaUp, noise)), dtype);
    if (start) this.#start.clear();
    else this.#start.push(new Start(sample.alias(), drawn.alias()));
    this.advance();
    return result;
  }

  protected override release(): void {
    this.#start.clear();
  }
}
