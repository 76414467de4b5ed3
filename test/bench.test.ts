// The benchmark tool's own parts: taking turns, figures, tables, the command line. Nothing is timed.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Command } from 'commander';

import { defineBench } from '../lib/cli/bench.js';
import { interleave, median, type Side } from '../scripts/bench/measure.js';
import { type BenchResult, markdown } from '../scripts/bench/report.js';

const quiet = { log: () => {} };

function side(name: string, values: number[], calls: string[], isOurs = false): Side {
  const run = async () => {
    calls.push(name);
    return values.shift() ?? 0;
  };
  return { name, isOurs, dtype: 'float32', run };
}

test('sides take turns, and warming up counts for nothing', async () => {
  const calls: string[] = [];
  const sides = [side('a', [9, 1, 3, 2], calls), side('b', [9, 6, 4, 5], calls)];
  const { results } = await interleave(sides, { rounds: 3, warmups: 1, ...quiet });
  assert.equal(calls.join(''), 'abababab');
  assert.deepEqual(
    results.map(({ values, median, min, max }) => ({ values, median, min, max })),
    [
      { values: [1, 3, 2], median: 2, min: 1, max: 3 },
      { values: [6, 4, 5], median: 5, min: 4, max: 6 },
    ],
  );
});

test('a side that fails while it warms up is left out and named', async () => {
  const run = async () => {
    throw new Error('no compiler\nmore');
  };
  const broken: Side = { name: 'broken', isOurs: false, dtype: 'float32', run };
  const sides = [broken, side('a', [9, 1], [])];
  const { results, notes } = await interleave(sides, { rounds: 1, warmups: 1, ...quiet });
  assert.deepEqual(
    results.map(({ name, values }) => [name, values]),
    [['a', [1]]],
  );
  assert.deepEqual(notes, ['broken could not be measured: no compiler']);
});

test('the median of an even number of values lies between the middle two', () => {
  assert.equal(median([4, 1, 3, 2]), 2.5);
});

test('the table gives ratios, shares of the peak of the same dtype, and errors', () => {
  const figures = (value: number) => ({ median: value, min: value, max: value, values: [value] });
  const ours = { name: 'torchbrush', isOurs: true, dtype: 'float32', ...figures(2) } as const;
  const theirs = { name: 'other', isOurs: false, dtype: 'float32', ...figures(5) } as const;
  const result: BenchResult = {
    date: '2026-01-02T03:04:05Z',
    machine: {
      cpu: 'P',
      cores: 2,
      gigabytes: 8,
      system: 'Linux',
      features: ['avx2'],
      node: '20',
      torchbrush: '0',
      libtorch: '2.13.0',
      capability: 'AVX2',
      threads: 2,
    },
    settings: { rounds: 1 },
    peers: { other: { torch: '2.13.0' } },
    scenarios: {
      unet: [
        {
          title: 'step',
          unit: 's',
          sides: [{ ...ours, maxAbsError: 0.00125 }, theirs],
          flop: 100e9,
          peaks: { float32: { median: 100e9, min: 99e9, max: 101e9 } },
          outputScale: 2,
          notes: [],
        },
      ],
    },
  };
  const rows = markdown(result)
    .split('\n')
    .filter((line) => line.startsWith('|'));
  assert.equal(rows.length, 4);
  assert.equal(rows[2], '| torchbrush | 2.00 (2.00–2.00) | – | 50 (50 %) | 1.3e-3 |');
  assert.equal(rows[3], '| other | 5.00 (5.00–5.00) | 2.50× | 20 (20 %) | – |');
});

test('unknown scenarios and peers are refused before anything starts', async () => {
  for (const args of [
    ['--scenario', 'nope'],
    ['--peer', 'nope'],
  ]) {
    const command = defineBench(new Command('bench'));
    await assert.rejects(command.parseAsync(args, { from: 'user' }), {
      code: 'ERR_INVALID_ARGUMENT',
      message: /for --\w+ but received "nope" \(string\)/,
    });
  }
});
