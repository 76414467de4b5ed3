/** What the runs of all samplers have in common. */

import { DisposedError, expected } from '../errors.js';
import type { Tensor } from '../tensor.js';
import { addNoiseAtAlphaBar, addNoiseAtSigma } from './add-noise.js';
import { evaluate } from './linear-form.js';
import type { Begin, SchedulerRun, StepOptions } from './scheduler.js';

/** A run's constants. */
export interface RunSchedule {
  readonly begin: Begin;
  /** Full list, from the first timestep on; empty where a class has none. */
  readonly sigmas?: readonly number[];
  readonly initNoiseSigma?: number;
  readonly order?: number;
}

export abstract class BaseRun implements SchedulerRun {
  readonly timesteps: readonly number[];
  readonly sigmas: readonly number[];
  readonly initNoiseSigma: number;
  readonly order: number;
  readonly numInferenceSteps: number;
  #disposed = false;

  constructor({ begin, sigmas = [], initNoiseSigma = 1, order = 1 }: RunSchedule) {
    this.timesteps = begin.timesteps;
    this.sigmas = sigmas.slice(begin.beginIndex ?? 0);
    this.initNoiseSigma = initNoiseSigma;
    this.order = order;
    this.numInferenceSteps = begin.numInferenceSteps;
  }

  scaleModelInput(sample: Tensor, _timestep: number): Tensor {
    return sample.alias();
  }

  step(modelOutput: Tensor, timestep: number, sample: Tensor, options: StepOptions = {}): Tensor {
    if (this.#disposed) throw new DisposedError('This scheduler run is disposed; start another.');
    return this.update(modelOutput, timestep, sample, options);
  }

  abstract addNoise(original: Tensor, noise: Tensor, timestep: number): Tensor;

  dispose(): void {
    this.#disposed = true;
    this.release();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** The sampler's formula. */
  protected abstract update(
    modelOutput: Tensor,
    timestep: number,
    sample: Tensor,
    options: StepOptions,
  ): Tensor;

  /** Disposes what is kept between steps. */
  protected release(): void {}
}

/** A run that looks ᾱ up by whole timestep. */
export abstract class AlphaBarRun extends BaseRun {
  readonly #alphasCumprod: Float32Array;
  readonly #finalAlphaCumprod: number;

  constructor(schedule: RunSchedule, alphasCumprod: Float32Array, finalAlphaCumprod: number) {
    super(schedule);
    this.#alphasCumprod = alphasCumprod;
    this.#finalAlphaCumprod = finalAlphaCumprod;
    for (const timestep of this.timesteps) this.alphaBar(timestep);
  }

  addNoise(original: Tensor, noise: Tensor, timestep: number): Tensor {
    return addNoiseAtAlphaBar(original, noise, this.alphaBar(timestep));
  }

  /** ᾱ at a timestep; negative ones count from the end, as rounding can make the last one −1. */
  protected alphaBar(timestep: number): number {
    const table = this.#alphasCumprod;
    const value = table[timestep < 0 ? timestep + table.length : timestep];
    if (value === undefined) {
      const hint = 'Use fewer steps, or another stepsOffset or timestepSpacing.';
      throw expected(`a whole number below ${table.length}`, 'timestep', timestep, hint);
    }
    return value;
  }

  /** ᾱ at the timestep that a step leads to; below zero there is no noise left to remove. */
  protected previousAlphaBar(timestep: number): number {
    return timestep >= 0 ? this.alphaBar(timestep) : this.#finalAlphaCumprod;
  }
}

/** A run that counts its steps through a list of sigmas. */
export abstract class SigmaRun extends BaseRun {
  readonly #allTimesteps: readonly number[];
  readonly #allSigmas: readonly number[];
  readonly #beginIndex: number | undefined;
  #stepIndex: number | undefined;

  constructor(
    schedule: RunSchedule & { readonly sigmas: readonly number[] },
    allTimesteps: readonly number[],
  ) {
    super(schedule);
    this.#allTimesteps = allTimesteps;
    this.#allSigmas = schedule.sigmas;
    this.#beginIndex = schedule.begin.beginIndex;
  }

  addNoise(original: Tensor, noise: Tensor, timestep: number): Tensor {
    return addNoiseAtSigma(original, noise, this.sigmaAt(this.noiseIndex(timestep)));
  }

  /** Number of timesteps of the whole schedule. */
  protected get length(): number {
    return this.#allTimesteps.length;
  }

  /** Number of noise levels of the whole schedule, the final one included. */
  protected get sigmaCount(): number {
    return this.#allSigmas.length;
  }

  protected sigmaAt(index: number): number {
    const sigma = this.#allSigmas[index];
    if (sigma === undefined) throw this.#ended();
    return sigma;
  }

  /** Index of the current step in the whole schedule. The first call decides where to begin. */
  protected stepIndex(timestep: number): number {
    this.#stepIndex ??= this.#beginIndex ?? this.#lookUp(timestep);
    if (this.#stepIndex >= this.length) throw this.#ended();
    return this.#stepIndex;
  }

  protected advance(): void {
    if (this.#stepIndex !== undefined) this.#stepIndex += 1;
  }

  /** Index of the noise level that `addNoise` brings a sample to. */
  protected noiseIndex(timestep: number): number {
    if (this.#beginIndex === undefined) return this.#lookUp(timestep);
    return this.#stepIndex ?? this.#beginIndex;
  }

  /** What the index of an unlisted timestep is; undefined for an error. */
  protected unlistedIndex(): number | undefined {
    return undefined;
  }

  /**
   * Of a repeated timestep the second counts, so that image-to-image skips no sigma. Not so the
   * very first: from there on, diffusers runs out of sigmas in the last step.
   */
  #lookUp(timestep: number): number {
    const first = this.#allTimesteps.indexOf(timestep);
    const second = first > 0 ? this.#allTimesteps.indexOf(timestep, first + 1) : -1;
    const index = second >= 0 ? second : first >= 0 ? first : this.unlistedIndex();
    if (index === undefined) {
      throw expected('one of the timesteps of the run', 'timestep', timestep);
    }
    return index;
  }

  #ended() {
    const hint = 'Start another run for another generation.';
    return expected(`at most ${this.timesteps.length} steps`, 'the run', 'one more', hint);
  }
}

/** A run whose network takes samples of unit variance, while its own grow with the noise. */
export abstract class ScaledSigmaRun extends SigmaRun {
  override scaleModelInput(sample: Tensor, timestep: number): Tensor {
    const sigma = this.inputSigma(this.stepIndex(timestep));
    return evaluate([[1 / Math.sqrt(sigma ** 2 + 1), sample]], sample.dtype);
  }

  /** Noise level of the sample that the network is given at the `i`-th timestep. */
  protected inputSigma(i: number): number {
    return this.sigmaAt(i);
  }
}
