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
  const { cases, rejected, failures, byPrecision } = await pending.finish();
  console.log(`${className}: ${cases.length} cases, ${rejected} refused by both`);
  report(failures);
  for (const [precision, comparison] of byPrecision) {
    const { numberless, coarse, maxima, failures } = comparison;
    const shown = Object.entries(maxima).map(
      ([what, error]) => `${what} ${error.toExponential(1)}`,
    );
    console.log(`  ${precision}: ${numberless} without a number, ${coarse.length} coarse`);
    console.log(`    ${shown.join(', ')}`);
    for (const { error, ours, theirs, one } of coarse) {
      const errors = [error, ours, theirs].map((value) => value.toExponential(1));
      console.log(`    apart, ours, theirs: ${errors.join(' ')}  ${JSON.stringify(one)}`);
    }
    report(failures);
  }
}

function report(failures: readonly string[]): void {
  for (const failure of failures) console.log(`FAIL ${failure}`);
  if (failures.length > 0) process.exitCode = 1;
}
