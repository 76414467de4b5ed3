// The benchmark tool's own parts: taking turns, figures, tables, the command line. Nothing is timed.
import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { Command } from 'commander';

import { defineBench } from '../lib/cli/bench.js';
import { memoryStats, Tensor } from '../lib/index.js';
import { chooseSides, dtypesFor, peersFor } from '../scripts/bench/choice.js';
import { BenchContext, type BenchSettings } from '../scripts/bench/context.js';
import { timedOn } from '../scripts/bench/device.js';
import { interleave, median, type Side } from '../scripts/bench/measure.js';
import { diffusersModes } from '../scripts/bench/peers/diffusers.js';
import { PeerProcess } from '../scripts/bench/peers/process.js';
import { makeExecutable } from '../scripts/bench/peers/stable-diffusion-cpp.js';
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

test('the CPU is measured in its dtypes, a GPU in float16 with and without graphs', () => {
  const names = (device: string, canCompile: boolean) =>
    chooseSides({ peers: peersFor(device), dtypes: dtypesFor(device), device }, canCompile);
  const cpu = names('cpu', false);
  assert.deepEqual(
    cpu.own.map(({ name }) => name),
    ['torchbrush float32', 'torchbrush bfloat16'],
  );
  assert.deepEqual(cpu.peers, ['eager', 'eager-bf16', 'eager-bf16-cl', 'compile-bf16', 'sdcpp']);
  const gpu = names('cuda:0', true);
  assert.deepEqual(
    gpu.own.map(({ name, isCompiled }) => [name, isCompiled]),
    [
      ['torchbrush float16', false],
      ['torchbrush float16, compiled', true],
    ],
  );
  assert.deepEqual(gpu.peers, ['eager', 'eager-fp16', 'compile-fp16']);
  assert.deepEqual([...cpu.leftOut, ...gpu.leftOut], []);
});

test('what was asked for and does not fit the device is left out, with a line', () => {
  const onCpu = chooseSides(
    { peers: ['eager', 'compile-fp16'], dtypes: ['float16', 'float32'], device: 'cpu' },
    false,
  );
  assert.deepEqual(onCpu.peers, ['eager']);
  assert.deepEqual(
    onCpu.own.map(({ dtype }) => dtype),
    ['float32'],
  );
  assert.deepEqual(onCpu.leftOut, [
    'compile-fp16 is left out: it is for cuda, not cpu',
    'torchbrush float16 is left out: nothing computes in float16 on the CPU',
  ]);
  const onGpu = chooseSides(
    { peers: ['eager-bf16', 'sdcpp', 'none'], dtypes: ['float16'], device: 'cuda:0' },
    false,
  );
  assert.deepEqual(onGpu.peers, ['none']);
  assert.deepEqual(onGpu.leftOut, [
    'eager-bf16 is left out: it is for cpu, not cuda:0',
    'sdcpp is left out: it is for cpu, not cuda:0',
    'torchbrush float16, compiled is left out: there is no CUDA companion for cuda:0',
  ]);
});

const node = (script: string, limit?: number) =>
  PeerProcess.start('peer', process.execPath, ['-e', script], { limit });
const introduction = 'console.log(JSON.stringify({ version: 1 }));';

test('a peer that takes too long for an answer is ended, and says no more', async () => {
  const peer = await node(`${introduction} process.stdin.resume();`, 1);
  assert.deepEqual(peer.versions, { version: 1 });
  await assert.rejects(peer.ask('wait'), { message: 'peer took longer than 1 s.' });
  await assert.rejects(peer.ask('again'), { message: 'peer took longer than 1 s.' });
});

test('a peer that ends early says its last words', async () => {
  const script = "console.error('line\\nModuleNotFoundError: no such module'); process.exit(1);";
  await assert.rejects(node(script), /^Error: peer ended early: ModuleNotFoundError: no such/);
});

test('a peer that cannot start leaves only its own side out', async () => {
  const settings: BenchSettings = {
    ...{ rounds: 1, threads: 1, device: 'cpu', dtypes: [], latents: [8] },
    ...{ peers: ['eager'], python: '/no/python', check: false },
  };
  const lines: string[] = [];
  const choice = { own: [], peers: ['eager'], leftOut: [] };
  const context = new BenchContext(settings, choice, (line) => lines.push(line));
  const mode = diffusersModes.eager;
  assert.ok(mode !== undefined);
  const never = context.diffusersSide(
    mode,
    async () => {},
    async () => 1,
  );
  const result = await context.compare('title', [never, side('a', [2, 1], [])]);
  await context.closeDiffusers();
  await context.dispose();
  assert.deepEqual(
    result.sides.map(({ name }) => name),
    ['a'],
  );
  assert.match(result.notes.join(), /^diffusers eager float32 could not be measured: .*ENOENT/);
});

test('a file that npm has left without the permission is made executable', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'torchbrush-bench-'));
  try {
    const file = join(folder, 'bare');
    writeFileSync(file, '');
    chmodSync(file, 0o644);
    await makeExecutable(file);
    assert.equal(statSync(file).mode & 0o777, 0o755);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('what is timed is disposed', async () => {
  const before = memoryStats().tensors;
  const seconds = await timedOn('cpu', async () => Tensor.fromArray(new Float32Array(4), [4]));
  assert.ok(seconds >= 0);
  assert.equal(memoryStats().tensors, before);
});
