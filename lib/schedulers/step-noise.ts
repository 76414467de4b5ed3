/** Fresh noise for samplers that add some at each step. */

import { expected } from '../errors.js';
import { Generator } from '../generator.js';
import { concat, randn } from '../ops.js';
import type { DType, Tensor } from '../tensor.js';

/**
 * Standard normal noise shaped as `like`, drawn in `dtype` (which decides what a seed gives).
 * With one generator per sample, each sample is drawn separately.
 */
export function drawNoise(
  like: Tensor,
  dtype: DType,
  generator: Generator | readonly Generator[] | undefined,
): Tensor {
  const { device, shape } = like;
  const list: readonly Generator[] = [generator ?? new Generator()].flat();
  const [only] = list;
  if (only !== undefined && list.length === 1) {
    return randn(shape, { generator: only, dtype, device });
  }
  if (list.length !== shape[0]) {
    throw expected(`one generator or ${shape[0]}`, 'generator', list);
  }
  const parts = list.map((one) => randn([1, ...shape.slice(1)], { generator: one, dtype, device }));
  try {
    return concat(parts, 0);
  } finally {
    for (const part of parts) part.dispose();
  }
}
