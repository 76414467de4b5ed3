// Inputs of a network that say what to draw, with and without the half for guidance.
import { concat } from '../ops.js';
import type { Tensor } from '../tensor.js';

/**
 * Tensors with a row for each picture and, where there is guidance, the same with rows for the
 * negatives in front. Dispose it.
 */
export class Conditions<Names extends string> {
  readonly #positive: Readonly<Record<Names, Tensor>>;
  readonly #both: Readonly<Record<Names, Tensor>> | undefined;

  private constructor(positive: Record<Names, Tensor>, both: Record<Names, Tensor> | undefined) {
    this.#positive = positive;
    this.#both = both;
  }

  /** Takes the tensors over, [B,…] each. */
  static fromHalves<Names extends string>(
    positive: Record<Names, Tensor>,
    negative: Record<Names, Tensor> | undefined,
  ): Conditions<Names> {
    if (negative === undefined) return new Conditions(positive, undefined);
    const names = Object.keys(positive) as Names[];
    const joined = names.map((name) => [name, concat([negative[name], positive[name]])]);
    disposeAll(negative);
    return new Conditions(positive, Object.fromEntries(joined) as Record<Names, Tensor>);
  }

  /** Takes the tensors over: [B,…] each, and [2B,…] each for guided passes. */
  static fromBoth<Names extends string>(
    positive: Record<Names, Tensor>,
    both: Record<Names, Tensor> | undefined,
  ): Conditions<Names> {
    return new Conditions(positive, both);
  }

  /** [2B,…] for a guided pass, else [B,…]. They stay the object's own. */
  of(guided: boolean): Readonly<Record<Names, Tensor>> {
    return guided ? (this.#both ?? this.#positive) : this.#positive;
  }

  [Symbol.dispose](): void {
    disposeAll(this.#positive);
    if (this.#both !== undefined) disposeAll(this.#both);
  }
}

function disposeAll(tensors: Readonly<Record<string, Tensor>>): void {
  for (const tensor of Object.values(tensors)) tensor.dispose();
}
