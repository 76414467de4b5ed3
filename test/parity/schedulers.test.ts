import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { type StartOptions, schedulerNames } from '../../lib/schedulers/index.js';
import { ensurePython } from '../../scripts/python.js';
import { type Comparison, PendingComparison } from './schedulers-compare.js';
import { PythonSchedulers } from './schedulers-python.js';
import { PROMISED_STEPS } from './schedulers-starts.js';

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
    // Its roundings add up.
    steps: 1,
  }),
}));

for (const { className, wide, half } of pending) {
  test(`${className} does as diffusers does, for ${count} random configurations`, async (context) => {
    const { cases, failures, byPrecision } = await wide.finish();
    assert.deepEqual(failures, []);
    assert.ok(cases.length >= count, `${cases.length} cases`);
    for (const [precision, comparison] of byPrecision) {
      assert.deepEqual(comparison.failures, [], precision);
      for (const line of coarseCases(comparison)) context.diagnostic(`${precision}: ${line}`);
    }
    const starts = new Set(cases.map(({ start }) => startOf(start)));
    for (const steps of count < 200 ? [] : PROMISED_STEPS) {
      // diffusers' UnCLIP divides by the number of steps less one.
      if (className === 'UnCLIPScheduler' && steps === 1) continue;
      for (const place of ['from noise', 'from a begin index']) {
        assert.ok(starts.has(`${steps} ${place}`), `no case of ${steps} steps ${place}`);
      }
    }
  });

  test(`${className} does as diffusers does in half precision`, async () => {
    const { failures, byPrecision } = await half.finish();
    assert.deepEqual(failures, []);
    for (const [precision, { failures }] of byPrecision) {
      assert.deepEqual(failures, [], precision);
    }
  });
}

function startOf({ numInferenceSteps, strength }: StartOptions): string {
  return `${numInferenceSteps} ${strength === undefined ? 'from noise' : 'from a begin index'}`;
}

/** Says how many cases rounding alone takes beyond the limit, and how far. */
function coarseCases({ coarse }: Comparison): string[] {
  if (coarse.length === 0) return [];
  const most = (key: 'error' | 'ours' | 'theirs') =>
    Math.max(...coarse.map((one) => one[key])).toExponential(1);
  return [
    `${coarse.length} cases are up to ${most('error')} apart; of the same formulas in float64 ` +
      `ours are up to ${most('ours')} off, those of diffusers ${most('theirs')}`,
  ];
}
