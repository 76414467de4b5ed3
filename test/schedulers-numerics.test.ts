import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { roundTo } from '../lib/schedulers/add-noise.js';
import { betaQuantile } from '../lib/schedulers/beta-distribution.js';
import {
  makeAlphasCumprod,
  makePositiveAlphasCumprod,
  makeSigmaTable,
  type NoiseScheduleConfig,
} from '../lib/schedulers/noise-schedule.js';
import {
  arange,
  interpolate,
  linspace,
  linspaceFloat32,
  logFloat32,
  roundHalfEven,
  solveLinear,
} from '../lib/schedulers/numerics.js';
import { logSigmaTable, sigmaFormula, sigmaToT } from '../lib/schedulers/sigmas.js';

const golden = JSON.parse(
  readFileSync(new URL('./golden/schedulers/numerics.json', import.meta.url), 'utf8'),
) as {
  log: { of: number[]; is: number[] };
  alphasCumprod: Record<string, number[]>;
  linspace: number[][];
  arange: Record<string, number[]>;
  arangeLengths: Record<string, number>;
  round: { of: number[]; is: number[] };
  betaQuantile: { of: number[]; is: number[] };
};

const stableDiffusion: NoiseScheduleConfig = {
  numTrainTimesteps: 1000,
  betaStart: 0.00085,
  betaEnd: 0.012,
  betaSchedule: 'scaled_linear',
  trainedBetas: null,
  rescaleBetasZeroSnr: false,
};

test('the float32 logarithm is that of numpy to the bit', () => {
  assert.deepEqual(golden.log.of.map(logFloat32), golden.log.is.map(Math.fround));
});

test('linspace, arange and rounding are those of numpy to the bit', () => {
  for (const values of golden.linspace) assert.deepEqual(linspace(0, 999, values.length), values);
  for (const [n, values] of Object.entries(golden.arange)) {
    assert.deepEqual(arange(1000, 0, -1000 / Number(n)), values);
  }
  assert.deepEqual(golden.round.of.map(roundHalfEven), golden.round.is);
});

test('arange gives one value too many where numpy does', () => {
  for (const [n, length] of Object.entries(golden.arangeLengths)) {
    assert.equal(arange(1000, 0, -1000 / Number(n)).length, length, n);
  }
  assert.ok(Object.entries(golden.arangeLengths).some(([n, length]) => length !== Number(n)));
});

test('cumulative products of the alphas are those of torch to the bit', () => {
  const schedules = {
    '0.00085-0.012 scaled': stableDiffusion,
    '0.0001-0.02': {
      ...stableDiffusion,
      betaStart: 0.0001,
      betaEnd: 0.02,
      betaSchedule: 'linear' as const,
    },
  };
  for (const [name, config] of Object.entries(schedules)) {
    const ours = [...makeAlphasCumprod(config)].filter((_, i) => i % 37 === 0);
    assert.deepEqual(ours, golden.alphasCumprod[name]);
  }
});

test('quantiles of the beta distribution agree with scipy to 13 digits', () => {
  for (const [i, share] of golden.betaQuantile.of.entries()) {
    const expected = golden.betaQuantile.is[i] ?? Number.NaN;
    const error = Math.abs(betaQuantile(share) - expected);
    assert.ok(error <= 1e-13 * Math.max(expected, 1e-3), `${share}: ${error}`);
  }
});

test('zero terminal SNR leaves no signal, or the least that float16 can hold', () => {
  const config = { ...stableDiffusion, rescaleBetasZeroSnr: true };
  assert.equal(makeAlphasCumprod(config).at(-1), 0);
  assert.equal(makePositiveAlphasCumprod(config).at(-1), 2 ** -24);
  // √(2²⁴ − 1) in float32
  assert.equal(makeSigmaTable(makePositiveAlphasCumprod(config)).at(-1), 4095.999755859375);
  assert.equal(makeAlphasCumprod(config).at(0), makeAlphasCumprod(stableDiffusion).at(0));
});

test('trained betas replace the schedule', () => {
  const config = { ...stableDiffusion, trainedBetas: [0.25, 0.5] };
  assert.deepEqual([...makeAlphasCumprod(config)], [0.75, 0.375]);
});

test('a single value of linspace is the start', () => {
  assert.deepEqual(linspace(0, 999, 1), [0]);
  assert.deepEqual([...linspaceFloat32(0.5, 1, 1)], [0.5]);
});

test('a table is interpolated between its entries and clamped outside them', () => {
  assert.deepEqual(
    [-1, 0, 0.25, 1, 5].map((x) => interpolate(x, [2, 4])),
    [2, 2, 2.5, 4, 4],
  );
});

test('the timestep of a table sigma is its index', () => {
  const table = makeSigmaTable(makeAlphasCumprod(stableDiffusion));
  const logs = logSigmaTable(table);
  for (const t of [0, 1, 500, 998]) {
    assert.ok(Math.abs(sigmaToT(table[t] ?? 0, logs, { float32: true }) - t) < 1e-6);
  }
  assert.equal(sigmaToT(1e9, logs), 999);
  assert.equal(sigmaToT(0, logs), 0);
});

test('only one formula for sigmas may be asked for', () => {
  const none = { useKarrasSigmas: false, useExponentialSigmas: false, useBetaSigmas: false };
  assert.equal(sigmaFormula(none), undefined);
  assert.equal(sigmaFormula({ ...none, useBetaSigmas: true }), 'useBetaSigmas');
  assert.throws(() => sigmaFormula({ ...none, useBetaSigmas: true, useKarrasSigmas: true }), {
    code: 'ERR_INVALID_ARGUMENT',
  });
});

test('numbers round to half precision as tensors do', () => {
  assert.deepEqual(
    [1 + 2 ** -11, 1 + 3 * 2 ** -11, 65519, 65520, 2 ** -25, 3 * 2 ** -25, -2.5].map((x) =>
      roundTo(x, 'float16'),
    ),
    [1, 1 + 2 ** -9, 65504, Number.POSITIVE_INFINITY, 0, 2 ** -23, -2.5],
  );
  assert.deepEqual(
    [14.6146, 1 + 2 ** -8, 0.1].map((x) => roundTo(x, 'bfloat16')),
    [14.625, 1, 0.10009765625],
  );
  assert.equal(roundTo(0.1, 'float32'), Math.fround(0.1));
  assert.equal(roundTo(0.1, 'float64'), 0.1);
});

test('linear equations are solved, whatever the order of their rows', () => {
  const x = solveLinear(
    [
      [0, 2, 1],
      [1, 0, 0],
      [1, 1, 4],
    ],
    [7, 1, 15],
  );
  for (const [i, expected] of [1, 2, 3].entries()) {
    assert.ok(Math.abs((x[i] ?? 0) - expected) < 1e-12);
  }
  assert.deepEqual(solveLinear([], []), []);
});
