/**
 * Bounds of predicted images: dynamic thresholding, or plain clipping.
 * Imagen: https://arxiv.org/abs/2205.11487 (section 2.3)
 */

import { abs, clamp, divide, quantile, reshape } from '../ops.js';
import type { Scratch } from '../scratch.js';
import type { DType, Tensor } from '../tensor.js';
import { evaluate, type LinearForm } from './linear-form.js';

export interface ThresholdOptions {
  /** Quantile of |x0| that becomes the bound. */
  readonly dynamicThresholdingRatio: number;
  /** Largest bound. The smallest is 1. */
  readonly sampleMaxValue: number;
}

/** Bounds each sample of a batch by a quantile of itself and scales it to −1..1. Fresh tensor. */
export function dynamicThreshold(x0: Tensor, options: ThresholdOptions): Tensor {
  using flat = reshape(x0, [x0.shape[0] ?? 1, -1]);
  using magnitude = abs(flat);
  using bound = quantile(magnitude, options.dynamicThresholdingRatio, 1, true);
  using s = clamp(bound, 1, options.sampleMaxValue);
  // clamp(x, −s, s) / s, bit for bit, without bounds that are tensors.
  using scaled = divide(flat, s);
  using clamped = clamp(scaled, -1, 1);
  return reshape(clamped, [...x0.shape]);
}

export interface BoundOptions extends ThresholdOptions {
  readonly thresholding: boolean;
  readonly clipSample: boolean;
  /** Largest magnitude of a clipped image. */
  readonly clipSampleRange: number;
}

/**
 * A predicted image within the configured bounds, thresholding before clipping. What is computed
 * for it, in `dtype`, belongs to `scratch`.
 */
export function boundImage(
  image: LinearForm<Tensor>,
  dtype: DType,
  options: BoundOptions,
  scratch: Scratch,
): LinearForm<Tensor> {
  const { thresholding, clipSample, clipSampleRange } = options;
  if (!thresholding && !clipSample) return image;
  using predicted = evaluate(image, dtype);
  const bounded = thresholding
    ? dynamicThreshold(predicted, options)
    : clamp(predicted, -clipSampleRange, clipSampleRange);
  return [[1, scratch.own(bounded)]];
}
