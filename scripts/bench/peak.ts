// What this machine can do at most: a product of two large matrices with the weight packed for oneDNN,
// by the operators that libtorch registers for compiled code. libtorch's own matmul takes MKL in
// float32, which is slow on other makers' processors, so it is no measure of the machine.

import type { NativeTensor } from '../../lib/core.js';
import { TorchbrushError } from '../../lib/errors.js';
import { Generator } from '../../lib/generator.js';
import { call } from '../../lib/native.js';
import { randn } from '../../lib/ops.js';
import type { BenchDType, Side } from './measure.js';

const size = 4096;
/** Multiplications and additions of one product. */
export const peakFlop = 2 * size ** 3;

export const peakName = (dtype: BenchDType): string =>
  `oneDNN matrix product ${size}×${size}×${size}, ${dtype}`;

/** Undefined where oneDNN has no product of that dtype on this processor. */
export function peakSide(dtype: BenchDType): Side | undefined {
  const generator = new Generator().manualSeed(0);
  using drawn = randn([size, size], { generator });
  const a = drawn.to({ dtype });
  using weight = drawn.to({ dtype });
  let packed: NativeTensor;
  try {
    const pack = call((core) => core.operator('mkldnn::_reorder_linear_weight', ''));
    packed = call(() => pack(weight.native, size) as NativeTensor);
  } catch (error) {
    a.dispose();
    if (!(error instanceof TorchbrushError) || error.code !== 'ERR_TORCH') throw error;
    return undefined;
  }
  const product = call((core) => core.operator('mkldnn::_linear_pointwise', ''));
  return {
    name: peakName(dtype),
    isOurs: false,
    dtype,
    async run() {
      const began = performance.now();
      const result = product(a.native, packed, null, 'none', [], null) as NativeTensor;
      const seconds = (performance.now() - began) / 1000;
      result.dispose();
      return seconds;
    },
    dispose() {
      a.dispose();
      packed.dispose();
    },
  };
}
