/**
 * Compares random scheduler configurations with diffusers and prints the largest errors.
 *
 *     node --import tsx test/parity/schedulers.ts [--count 200] [--seed 1] [--class NAME]
 *         [--dtype float64|float32|float16|bfloat16]
 *
 * `float64` lets diffusers compute in float64 too, so that both sides must agree to many digits.
 */

import { parseArgs } from 'node:util';

import { schedulerNames } from '../../lib/schedulers/index.js';
import type { DType } from '../../lib/tensor.js';
import { ensurePython } from '../../scripts/python.js';
import { compareWithDiffusers } from './schedulers-compare.js';

const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '200' },
    seed: { type: 'string', default: '1' },
    class: { type: 'string' },
    dtype: { type: 'string', default: 'float32' },
  },
});

const python = await ensurePython();
for (const className of schedulerNames) {
  if (values.class !== undefined && values.class !== className) continue;
  const { cases, rejected, coarse, maxima, failures } = await compareWithDiffusers({
    python,
    className,
    count: Number(values.count),
    seed: Number(values.seed),
    dtype: values.dtype as DType,
  });
  const shown = Object.entries(maxima).map(([what, error]) => `${what} ${error.toExponential(1)}`);
  console.log(`${className}: ${cases} cases, ${rejected} refused by both, ${coarse} coarse`);
  console.log(`  ${shown.join(', ')}`);
  for (const failure of failures) console.log(`FAIL ${failure}`);
  if (failures.length > 0) process.exitCode = 1;
}
