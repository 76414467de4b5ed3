import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { schedulerNames } from '../lib/index.js';
import { type Case, relativeError, runCase } from './golden/schedulers/run-case.js';

interface Golden {
  readonly case: Case;
  readonly expected: {
    readonly timesteps: number[];
    readonly sigmas: number[];
    readonly initNoiseSigma: number;
    readonly numInferenceSteps: number;
    readonly noisy?: number[];
    readonly noisyAgain?: number[];
    readonly last: number[];
    /** The same from float64 arithmetic, where diffusers' float32 loses digits. */
    readonly exact?: number[];
    /** Largest number among the last two samples. */
    readonly magnitude: number;
  };
}

const golden: Golden[] = JSON.parse(
  readFileSync(new URL('./golden/schedulers/cases.json', import.meta.url), 'utf8'),
);

/** Rounding of the dtype that diffusers computes in; a last bit of the C library for tables. */
const TABLE_LIMIT = 3e-7;
const NOISE_LIMITS: Record<string, number> = { float16: 2 ** -10, bfloat16: 2 ** -7 };

/** diffusers rounds every intermediate sum, ours the result of a step alone. */
const STEP_LIMITS: Record<string, number> = { float16: 4e-3, bfloat16: 4e-2 };

for (const className of schedulerNames) {
  const cases = golden.filter((one) => one.case.className === className);

  test(`${className} has golden cases`, () => {
    assert.ok(cases.length > 10);
  });

  for (const { case: one, expected } of cases) {
    test(`${className} follows diffusers: ${one.name}`, () => {
      const result = runCase(one);
      assert.equal(result.numInferenceSteps, expected.numInferenceSteps);
      assert.equal(result.timesteps.length, expected.timesteps.length);
      for (const [i, timestep] of expected.timesteps.entries()) {
        if (Number.isInteger(timestep)) assert.equal(result.timesteps[i], timestep);
      }
      const begin = Math.max(expected.sigmas.length - result.sigmas.length, 0);
      const noiseLimit = NOISE_LIMITS[one.dtype ?? ''] ?? 1e-6;
      const { initNoiseSigma, noisy = [], noisyAgain = [] } = result;
      const errors = {
        timesteps: [relativeError(result.timesteps, expected.timesteps), TABLE_LIMIT],
        sigmas: [relativeError(result.sigmas, expected.sigmas.slice(begin)), TABLE_LIMIT],
        initNoiseSigma: [relativeError([initNoiseSigma], [expected.initNoiseSigma]), TABLE_LIMIT],
        noisy: [relativeError(noisy, expected.noisy ?? []), noiseLimit],
        noisyAgain: [relativeError(noisyAgain, expected.noisyAgain ?? []), noiseLimit],
        last: [
          relativeError(
            result.samples.at(-1) ?? [],
            expected.exact ?? expected.last,
            expected.magnitude,
          ),
          STEP_LIMITS[one.dtype ?? ''] ?? 1e-5,
        ],
      } as const;
      for (const [what, [error, limit]] of Object.entries(errors)) {
        assert.ok(error <= limit, `${what} differ by ${error}, more than ${limit}`);
      }
    });
  }
}
