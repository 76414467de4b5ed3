// The sizes that Stable Diffusion XL was trained to be told (Podell et al., section 2.2,
// https://arxiv.org/abs/2307.01952): a row of numbers beside the pooled text.
import { expected } from '../errors.js';
import { Tensor } from '../tensor.js';

/** [height, width] in pixels, or [top, left]. */
export type Pair = readonly [number, number];

export interface TimeIdOptions {
  /** [height, width] that the picture should look as if scaled from; its own size unless given. */
  originalSize?: Pair;
  /** [top, left] of a crop; [0, 0] (default) centres the subject. */
  cropsCoordsTopLeft?: Pair;
  /** [height, width] the picture should look as if made for; its own size unless given. */
  targetSize?: Pair;
  /**
   * `originalSize` for the negative prompt; the prompt's unless given. Text-to-image takes the
   * negative's numbers only where this and `negativeTargetSize` are both given.
   */
  negativeOriginalSize?: Pair;
  /**
   * `cropsCoordsTopLeft` for the negative prompt; [0, 0]. Image-to-image takes it only where the UNet
   * takes an aesthetic score, as diffusers does.
   */
  negativeCropsCoordsTopLeft?: Pair;
  /** `targetSize` for the negative prompt; the prompt's unless given. */
  negativeTargetSize?: Pair;
}

export const timeIdOptionNames = [
  'originalSize',
  'cropsCoordsTopLeft',
  'targetSize',
  'negativeOriginalSize',
  'negativeCropsCoordsTopLeft',
  'negativeTargetSize',
];

/** @throws InvalidArgumentError */
export function checkTimeIds(options: TimeIdOptions): void {
  for (const name of timeIdOptionNames) {
    const value: unknown = options[name as keyof TimeIdOptions];
    if (value === undefined) continue;
    const isPair =
      Array.isArray(value) && value.length === 2 && value.every((item) => Number.isFinite(item));
    if (!isPair) throw expected('two numbers, height and width or top and left,', name, value);
  }
}

/** The row of the picture and of its negative. */
export interface TimeIds {
  positive: readonly number[];
  negative: readonly number[];
}

/** Text-to-image: six numbers. The negative's own sizes count only where both are given. */
export function textToImageIds(options: TimeIdOptions, size: Pair): TimeIds {
  const { originalSize = size, cropsCoordsTopLeft = [0, 0], targetSize = size } = options;
  const positive = [...originalSize, ...cropsCoordsTopLeft, ...targetSize];
  const { negativeOriginalSize, negativeTargetSize, negativeCropsCoordsTopLeft } = options;
  if (negativeOriginalSize === undefined || negativeTargetSize === undefined) {
    return { positive, negative: positive };
  }
  const negativeCrops = negativeCropsCoordsTopLeft ?? [0, 0];
  return { positive, negative: [...negativeOriginalSize, ...negativeCrops, ...negativeTargetSize] };
}

/** Image-to-image: six numbers, or five where the UNet takes an aesthetic score. */
export function imageToImageIds(
  options: TimeIdOptions,
  size: Pair,
  scores: { positive: number; negative: number } | undefined,
): TimeIds {
  const { originalSize = size, cropsCoordsTopLeft = [0, 0], targetSize = size } = options;
  const { negativeOriginalSize = originalSize, negativeTargetSize = targetSize } = options;
  if (scores === undefined) {
    return {
      positive: [...originalSize, ...cropsCoordsTopLeft, ...targetSize],
      // diffusers takes the picture's own crop for the negative, whatever was asked for.
      negative: [...negativeOriginalSize, ...cropsCoordsTopLeft, ...negativeTargetSize],
    };
  }
  const { negativeCropsCoordsTopLeft = [0, 0] } = options;
  return {
    positive: [...originalSize, ...cropsCoordsTopLeft, scores.positive],
    negative: [...negativeOriginalSize, ...negativeCropsCoordsTopLeft, scores.negative],
  };
}

/** Rows as a tensor [rows, 6 or 5]. */
export function timeIdTensor(
  rows: readonly (readonly number[])[],
  place: Pick<Tensor, 'dtype' | 'device'>,
): Tensor {
  const width = rows[0]?.length ?? 0;
  using onHost = Tensor.fromArray(Float32Array.from(rows.flat()), [rows.length, width]);
  return onHost.to({ dtype: place.dtype, device: place.device });
}
