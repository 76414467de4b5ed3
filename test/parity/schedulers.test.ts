import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { schedulerNames } from '../../lib/schedulers/index.js';
import { ensurePython } from '../../scripts/python.js';
import { PendingComparison } from './schedulers-compare.js';
import { PythonSchedulers } from './schedulers-python.js';

// With TORCHBRUSH_FULL_SCHEDULERS=1 every configuration runs with each step count, with and without
// a begin index.
const isFull = process.env.TORCHBRUSH_FULL_SCHEDULERS === '1';
const count = Number(process.env.TORCHBRUSH_FUZZ_SCHEDULERS ?? 200);
const seed = Number(process.env.TORCHBRUSH_FUZZ_SEED ?? 1);

const python = new PythonSchedulers(await ensurePython());
after(() => python[Symbol.dispose]());

// All at once, so that Python computes while the answers are compared.
const pending = schedulerNames.map((className) => ({
  className,
  wide: new PendingComparison(python, ['float64', 'float32'], { className, count, seed, isFull }),
  half: new PendingComparison(python, ['float16', 'bfloat16'], {
    className,
    count: Math.ceil(count / 8),
    seed: seed + 1,
    isFull: false,
  }),
}));

for (const { className, wide, half } of pending) {
  test(`${className} does as diffusers does, for ${count} random configurations`, async () => {
    const comparisons = await wide.finish();
    for (const [precision, { cases, failures }] of comparisons) {
      assert.deepEqual(failures, [], precision);
      assert.ok(cases >= count, `${cases} cases in ${precision}`);
    }
  });

  test(`${className} does as diffusers does in half precision`, async () => {
    for (const [precision, { failures }] of await half.finish()) {
      assert.deepEqual(failures, [], precision);
    }
  });
}
