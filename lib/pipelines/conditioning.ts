// What tells the UNet what to draw: embeddings of the prompt, and what some architectures add.
import { concat } from '../ops.js';
import type { Tensor } from '../tensor.js';

/** Inputs of a UNet beside sample and timestep; one row per sample. */
export interface UNetConditions {
  /** [B,L,D] */
  promptEmbeds: Tensor;
  /** Pooled embeddings, [B,P]: Stable Diffusion XL. */
  textEmbeds?: Tensor;
  /** Sizes, crops and scores, [B,6] or [B,5]: Stable Diffusion XL. */
  timeIds?: Tensor;
}

/** The conditions of the pictures and, where there is guidance, of their negatives. Dispose it. */
export class Conditioning {
  /** [B,…] */
  readonly positive: UNetConditions;
  /** [2B,…], the negative half first; undefined without guidance. */
  readonly both: UNetConditions | undefined;

  /** Takes the tensors over. `both` is joined here unless given. */
  constructor(positive: UNetConditions, negative?: UNetConditions, both?: UNetConditions) {
    this.positive = positive;
    this.both = both ?? (negative === undefined ? undefined : joined(negative, positive));
    if (negative !== undefined) disposeConditions(negative);
  }

  of(guided: boolean): UNetConditions {
    return guided ? (this.both ?? this.positive) : this.positive;
  }

  [Symbol.dispose](): void {
    disposeConditions(this.positive);
    if (this.both !== undefined) disposeConditions(this.both);
  }
}

function joined(negative: UNetConditions, positive: UNetConditions): UNetConditions {
  const join = (name: 'textEmbeds' | 'timeIds') => {
    const [a, b] = [negative[name], positive[name]];
    return a === undefined || b === undefined ? {} : { [name]: concat([a, b]) };
  };
  return {
    promptEmbeds: concat([negative.promptEmbeds, positive.promptEmbeds]),
    ...join('textEmbeds'),
    ...join('timeIds'),
  };
}

function disposeConditions(conditions: UNetConditions): void {
  for (const tensor of Object.values(conditions) as (Tensor | undefined)[]) tensor?.dispose();
}
