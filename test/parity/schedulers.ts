/**
 * Compares random scheduler configurations with diffusers and prints the largest errors.
 *
 *     node --import tsx test/parity/schedulers.ts [--count 200] [--seed 1] [--class NAME] [--full]
 *         [--precision float64,float32,float16,bfloat16]
 *
 * In `float64` diffusers computes in float64 too, so that both sides must agree to many digits.
 */

import { parseArgs } from 'node:util';

import { schedulerNames } from '../../lib/schedulers/index.js';
import { ensurePython } from '../../scripts/python.js';
import { PendingComparison, type Precision } from './schedulers-compare.js';
import { PythonSchedulers } from './schedulers-python.js';

const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '200' },
    seed: { type: 'string', default: '1' },
    class: { type: 'string' },
    full: { type: 'boolean', default: false },
    precision: { type: 'string', default: 'float64,float32' },
  },
});

using python = new PythonSchedulers(await ensurePython());
for (const className of schedulerNames) {
  if (values.class !== undefined && values.class !== className) continue;
  const pending = new PendingComparison(python, values.precision.split(',') as Precision[], {
    className,
    count: Number(values.count),
    seed: Number(values.seed),
    isFull: values.full,
  });
  for (const [precision, comparison] of await pending.finish()) {
    const { cases, rejected, coarse, maxima, failures } = comparison;
    const shown = Object.entries(maxima).map(
      ([what, error]) => `${what} ${error.toExponential(1)}`,
    );
    console.log(
      `${className} ${precision}: ${cases} cases, ${rejected} refused by both, ${coarse} coarse`,
    );
    console.log(`  ${shown.join(', ')}`);
    for (const failure of failures) console.log(`FAIL ${failure}`);
    if (failures.length > 0) process.exitCode = 1;
  }
}
