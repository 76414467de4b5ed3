/**
 * The forward process: a clean sample brought to a noise level.
 *
 * diffusers casts its tables to the sample's dtype first, so in half precision the level itself is
 * rounded. That is a systematic shift, not rounding noise, so it is reproduced.
 */

import type { DType, Tensor } from '../tensor.js';
import { evaluate, promote } from './linear-form.js';

/** Rounds to `bits` significant bits (halves to even) within a format's range. */
function roundToFormat(x: number, bits: number, minExponent: number, max: number): number {
  if (x === 0 || !Number.isFinite(x)) return x;
  const exponent = Math.max(Math.floor(Math.log2(Math.abs(x))), minExponent);
  const unit = 2 ** (exponent - bits + 1);
  const quotient = x / unit;
  const floor = Math.floor(quotient);
  const rest = quotient - floor;
  const up = rest > 0.5 || (rest === 0.5 && floor % 2 !== 0);
  const rounded = (up ? floor + 1 : floor) * unit;
  return Math.abs(rounded) > max ? Math.sign(x) * Number.POSITIVE_INFINITY : rounded;
}

/** Rounds a number as storing it in a tensor of `dtype` would. */
export function roundTo(x: number, dtype: DType): number {
  switch (dtype) {
    case 'float16':
      return roundToFormat(x, 11, -14, 65504);
    case 'bfloat16':
      return roundToFormat(x, 8, -126, 3.3895313892515355e38);
    case 'float64':
      return x;
    default:
      return Math.fround(x);
  }
}

/** √ᾱ · original + √(1 − ᾱ) · noise, for schedulers that count in ᾱ. */
export function addNoiseAtAlphaBar(original: Tensor, noise: Tensor, alphaBar: number): Tensor {
  const round = (x: number) => roundTo(x, original.dtype);
  const rounded = round(alphaBar);
  return evaluate(
    [
      [round(Math.sqrt(rounded)), original],
      [round(Math.sqrt(round(1 - rounded))), noise],
    ],
    promote(original.dtype, noise.dtype),
  );
}

/** original + σ · noise, for schedulers whose samples grow with the noise. */
export function addNoiseAtSigma(original: Tensor, noise: Tensor, sigma: number): Tensor {
  return evaluate(
    [
      [1, original],
      [roundTo(sigma, original.dtype), noise],
    ],
    promote(original.dtype, noise.dtype),
  );
}
