import assert from 'node:assert/strict';
import { before, test } from 'node:test';

import { schedulerNames } from '../../lib/schedulers/index.js';
import { ensurePython } from '../../scripts/python.js';
import { compareWithDiffusers } from './schedulers-compare.js';

let python: string;
before(async () => {
  python = await ensurePython();
});

for (const className of schedulerNames) {
  for (const dtype of ['float64', 'float32', 'float16', 'bfloat16'] as const) {
    test(`${className} does as diffusers does in ${dtype}, for random configurations`, async () => {
      const count = Number(process.env.TORCHBRUSH_FUZZ_SCHEDULERS ?? 100);
      const seed = Number(process.env.TORCHBRUSH_FUZZ_SEED ?? 1);
      const comparison = await compareWithDiffusers({ python, className, count, seed, dtype });
      assert.deepEqual(comparison.failures, []);
    });
  }
}
