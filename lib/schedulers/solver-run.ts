/** What the runs of the DPM-Solver family have in common. */

import type { Tensor } from '../tensor.js';
import { roundTo } from './add-noise.js';
import { evaluate, promote } from './linear-form.js';
import { type RunSchedule, SigmaRun } from './run.js';
import { type NoiseLevel, noiseLevel } from './solver-model.js';

/** A run whose samples keep their size: the noise pushes the image aside instead of adding to it. */
export abstract class SolverRun extends SigmaRun {
  readonly #flow: boolean;

  constructor(
    schedule: RunSchedule & { readonly sigmas: readonly number[] },
    allTimesteps: readonly number[],
    { useFlowSigmas }: { readonly useFlowSigmas: boolean },
  ) {
    super(schedule, allTimesteps);
    this.#flow = useFlowSigmas;
  }

  override addNoise(original: Tensor, noise: Tensor, timestep: number): Tensor {
    const round = (x: number) => roundTo(x, original.dtype);
    const ratio = round(this.sigmaAt(this.noiseIndex(timestep)));
    const norm = round(Math.sqrt(round(round(ratio ** 2) + 1)));
    const alpha = round(this.#flow ? 1 - ratio : 1 / norm);
    const sigma = this.#flow ? ratio : round(ratio * alpha);
    return evaluate(
      [
        [alpha, original],
        [sigma, noise],
      ],
      promote(original.dtype, noise.dtype),
    );
  }

  /** The noise level at an index of the whole schedule. */
  protected level(index: number): NoiseLevel {
    return noiseLevel(this.sigmaAt(index), this.#flow);
  }

  /** The levels from `index` back to the earlier ones, `count` in all. */
  protected levelsBack(index: number, count: number): NoiseLevel[] {
    return Array.from({ length: count }, (_, k) => this.level(index - k));
  }

  protected override unlistedIndex(): number {
    return this.length - 1;
  }
}
