import { InvalidArgumentError } from '../errors.js';

/** A stretch of a prompt in which every token has the same weight. */
export interface WeightedText {
  text: string;
  weight: number;
}

/** A product of nested weights. @throws InvalidArgumentError if float32 cannot hold it */
export function checkWeight(weight: number): number {
  if (Number.isFinite(Math.fround(weight))) return weight;
  throw new InvalidArgumentError(
    'The nested weights of the prompt multiply to more than a number can hold. Use fewer or smaller ones.',
  );
}
