/**
 * Pseudo numerical methods for diffusion models on manifolds.
 * https://arxiv.org/abs/2202.09778, formulas (9), (12), (13) and algorithm 2
 *
 * With `skipPrkSteps`, as Stable Diffusion uses it, the linear multistep method starts by itself:
 * the second timestep is evaluated twice, and the first step is redone with the average.
 */

import { expected } from '../errors.js';
import type { Tensor } from '../tensor.js';
import type { SchedulerConfig, SchedulerConfigInput, SchedulerOverrides } from './config.js';
import { choice, flag, integer, MODEL_FIELDS, readConfig, supportedPrediction } from './config.js';
import { History } from './history.js';
import { evaluate, type LinearForm, plus, promote, times } from './linear-form.js';
import { makeAlphasCumprod } from './noise-schedule.js';
import { at, roundHalfEven } from './numerics.js';
import { AlphaBarRun, type RunSchedule } from './run.js';
import { checkStepCount, type Scheduler, type StartOptions, skipTimesteps } from './scheduler.js';
import { spacedTimesteps, TIMESTEP_SPACINGS } from './timesteps.js';

const FIELDS = {
  ...MODEL_FIELDS,
  skipPrkSteps: flag(false),
  setAlphaToOne: flag(false),
  timestepSpacing: choice(TIMESTEP_SPACINGS, 'leading'),
  stepsOffset: integer(0),
} as const;

export type PNDMConfig = SchedulerConfig<typeof FIELDS>;
const PREDICTIONS = ['epsilon', 'v_prediction'] as const;
type PNDMPredictionType = (typeof PREDICTIONS)[number];

/** Steps that the Runge-Kutta method covers, and its evaluations per step. */
const PRK_STEPS = 3;
const PRK_EVALUATIONS = 4;

/** φ of formula (9): the sample at ᾱ_prev from the one at ᾱ_t and the noise between them. */
export function pndmTransfer<T>(
  predictionType: PNDMPredictionType,
  alphaBar: number,
  alphaBarPrevious: number,
  sample: T,
  modelOutput: LinearForm<T>,
): LinearForm<T> {
  const x: LinearForm<T> = [[1, sample]];
  const e =
    predictionType === 'epsilon'
      ? modelOutput
      : plus(times(Math.sqrt(alphaBar), modelOutput), times(Math.sqrt(1 - alphaBar), x));
  const denominator =
    alphaBar * Math.sqrt(1 - alphaBarPrevious) +
    Math.sqrt(alphaBar * (1 - alphaBar) * alphaBarPrevious);
  return plus(
    times(Math.sqrt(alphaBarPrevious / alphaBar), x),
    times(-(alphaBarPrevious - alphaBar) / denominator, e),
  );
}

/** Adams-Bashforth extrapolation of formula (12), newest output first, of order 1 to 4. */
export function adamsBashforth<T>(outputs: readonly T[]): LinearForm<T> {
  const weights = [
    [],
    [1],
    [3 / 2, -1 / 2],
    [23 / 12, -16 / 12, 5 / 12],
    [55 / 24, -59 / 24, 37 / 24, -9 / 24],
  ];
  const row = weights[Math.min(outputs.length, 4)] ?? [];
  return row.map((weight, i) => [weight, at(outputs, i)]);
}

/** The evaluations of the Runge-Kutta part, descending. */
function prkTimesteps(timesteps: readonly number[], stride: number): number[] {
  const halves = timesteps
    .slice(0, PRK_STEPS + 1)
    .flatMap((t) => [t + Math.floor(stride / 2), t])
    .slice(1);
  return halves.flatMap((t) => [t, t]).slice(1, -1);
}

/** Weights of the four evaluations of a Runge-Kutta step. */
const PRK_WEIGHTS = [1 / 6, 1 / 3, 1 / 3, 1 / 6] as const;

/** Pseudo numerical methods: the linear multistep method, optionally started by Runge-Kutta. */
export class PNDMScheduler implements Scheduler {
  /** The name of the class, which is that in diffusers. */
  static readonly className = 'PNDMScheduler';
  /** Whether `start` takes `timesteps` and `sigmas`. */
  static readonly customSchedules = { timesteps: false, sigmas: false } as const;
  readonly className = PNDMScheduler.className;
  readonly customSchedules = PNDMScheduler.customSchedules;
  readonly config: PNDMConfig;
  readonly #alphasCumprod: Float32Array;

  /**
   * From a `scheduler_config.json`, or the `config` of another scheduler: fields that this class does
   * not have are passed over, missing ones take diffusers' defaults, and `overrides` come on top.
   *
   * @throws ERR_INVALID_ARGUMENT for an impossible value
   */
  static fromConfig(
    config: SchedulerConfigInput,
    overrides: SchedulerOverrides<typeof FIELDS> = {},
  ): PNDMScheduler {
    return new PNDMScheduler(readConfig(PNDMScheduler.className, FIELDS, config, overrides));
  }

  private constructor(config: PNDMConfig) {
    this.config = config;
    this.#alphasCumprod = makeAlphasCumprod({ ...config, rescaleBetasZeroSnr: false });
  }

  start(options: StartOptions): PNDMRun {
    const numInferenceSteps = checkStepCount(options, this);
    const { numTrainTimesteps, skipPrkSteps, stepsOffset, timestepSpacing: spacing } = this.config;
    if (!skipPrkSteps && numInferenceSteps <= PRK_STEPS) {
      const hint = 'The Runge-Kutta start takes that many; skipPrkSteps: true does without it.';
      const least = `a whole number of at least ${PRK_STEPS + 1}`;
      throw expected(least, 'numInferenceSteps', numInferenceSteps, hint);
    }
    const stride = Math.floor(numTrainTimesteps / numInferenceSteps);
    const spaced = spacedTimesteps({
      spacing,
      numTrainTimesteps,
      numInferenceSteps,
      stepsOffset,
    }).map(roundHalfEven);
    const prk = skipPrkSteps ? [] : prkTimesteps(spaced, stride);
    const plms = skipPrkSteps
      ? spaced.flatMap((t, i) => (i === 1 ? [t, t] : [t]))
      : spaced.slice(PRK_STEPS);
    const begin = skipTimesteps([...prk, ...plms], numInferenceSteps, 1, options);
    return new PNDMRun({ begin }, this.config, this.#alphasCumprod, { prk, stride });
  }
}

export class PNDMRun extends AlphaBarRun {
  readonly #predictionType: PNDMPredictionType;
  readonly #prkTimesteps: readonly number[];
  readonly #stride: number;
  /** Calls so far. It knows nothing of skipped timesteps, neither here nor in diffusers. */
  #counter = 0;
  readonly #outputs = new History<Tensor>(4);
  /** The sample that a step of several evaluations started from. */
  readonly #start = new History<Tensor>(1);
  /** Second and third evaluation of a Runge-Kutta step, newest first. */
  readonly #slopes = new History<Tensor>(2);

  constructor(
    schedule: RunSchedule,
    config: PNDMConfig,
    alphasCumprod: Float32Array,
    { prk, stride }: { readonly prk: readonly number[]; readonly stride: number },
  ) {
    super(schedule, alphasCumprod, config.setAlphaToOne ? 1 : at(alphasCumprod, 0));
    this.#predictionType = supportedPrediction(config, PREDICTIONS);
    this.#prkTimesteps = prk;
    this.#stride = stride;
  }

  protected update(modelOutput: Tensor, timestep: number, sample: Tensor): Tensor {
    const previous =
      this.#counter < this.#prkTimesteps.length
        ? this.#rungeKutta(modelOutput, timestep, sample)
        : this.#multistep(modelOutput, timestep, sample);
    this.#counter += 1;
    return previous;
  }

  #rungeKutta(modelOutput: Tensor, timestep: number, sample: Tensor): Tensor {
    const evaluation = this.#counter % PRK_EVALUATIONS;
    const t = at(this.#prkTimesteps, this.#counter - evaluation);
    const half = evaluation % 2 === 0 ? Math.floor(this.#stride / 2) : 0;
    if (evaluation === 0) {
      this.#outputs.push(modelOutput.alias());
      this.#start.push(sample.alias());
    }
    let e: LinearForm<Tensor> = [[1, modelOutput]];
    if (evaluation === PRK_EVALUATIONS - 1) {
      const slopes = [at(this.#outputs.entries, 0), ...this.#slopes.entries, modelOutput];
      e = slopes.map((slope, i) => [at(PRK_WEIGHTS, i), slope]);
    } else if (evaluation > 0) {
      this.#slopes.push(modelOutput.alias());
    }
    return this.#transfer(at(this.#start.entries, 0), t, timestep - half, e);
  }

  #multistep(modelOutput: Tensor, timestep: number, sample: Tensor): Tensor {
    if (this.#counter === 1) {
      // The first step again, with the average of both ends.
      const e: LinearForm<Tensor> = [
        [1 / 2, modelOutput],
        [1 / 2, at(this.#outputs.entries, 0)],
      ];
      const start = at(this.#start.entries, 0);
      const previous = this.#transfer(start, timestep + this.#stride, timestep, e);
      this.#start.clear();
      return previous;
    }
    if (this.#counter === 0) this.#start.push(sample.alias());
    this.#outputs.push(modelOutput.alias());
    const e = adamsBashforth(this.#outputs.entries);
    return this.#transfer(sample, timestep, timestep - this.#stride, e);
  }

  #transfer(x: Tensor, t: number, previous: number, e: LinearForm<Tensor>): Tensor {
    const form = pndmTransfer(
      this.#predictionType,
      this.alphaBar(t),
      this.previousAlphaBar(previous),
      x,
      e,
    );
    const output = at(this.#outputs.entries, 0);
    return evaluate(form, promote(x.dtype, output.dtype));
  }

  protected override release(): void {
    this.#outputs.clear();
    this.#start.clear();
    this.#slopes.clear();
  }
}
