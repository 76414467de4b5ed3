// Networks below the pipelines: inputs that may be absent, and what is refused before anything runs.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { brotliDecompressSync } from 'node:zlib';
import { configure, memoryStats, Tensor } from '../lib/index.js';
import { callAsync } from '../lib/native.js';
import { Network } from '../lib/networks/network.js';
import { bundledProgramFolder, type ProgramRecord } from '../lib/networks/programs.js';
import { UNet, type UNetResiduals } from '../lib/networks/unet.js';
import { packageRoot } from '../lib/package-root.js';
import { demoModel } from './helpers.js';

configure({ threads: 1 });

// From test/golden/generate_residuals.py, whose inputs are made as those here are.
const golden = JSON.parse(
  readFileSync(join(packageRoot, 'test', 'golden', 'residuals.json'), 'utf8'),
) as { plain: number[]; added: number[] };
const skips = [
  [80, 4, 6],
  [80, 4, 6],
  [80, 2, 3],
  [128, 2, 3],
] as const;

function pattern(seed: number, ...shape: number[]): Tensor {
  const count = shape.reduce((product, size) => product * size, 1);
  const values = Float32Array.from(
    { length: count },
    (_, index) => ((seed + index * 37) % 101) / 101 - 0.5,
  );
  return Tensor.fromArray(values, shape);
}

const usual = ['sample', 'timestep', 'encoder_hidden_states'];
const added = [
  ...skips.map((_, index) => `down_block_additional_residuals.${index}`),
  'mid_block_additional_residual',
];

let network: Network;
let sample: Tensor;
let text: Tensor;
let residuals: UNetResiduals;
before(async () => {
  const options = { dtype: 'float32', device: 'cpu' } as const;
  network = await Network.load(join(demoModel, 'unet'), 'UNet2DConditionModel', options);
  sample = pattern(1, 2, 4, 4, 6);
  text = pattern(2, 2, 5, 128);
  residuals = {
    down: skips.map((shape, index) => pattern(10 + index, 2, ...shape)),
    mid: pattern(20, 2, 128, 2, 3),
  };
});
after(() => {
  network.dispose();
  for (const tensor of [sample, text, ...residuals.down, residuals.mid]) tensor.dispose();
  assert.deepEqual(memoryStats(), { tensors: 0, tensorBytes: 0, networks: 0 });
});

async function predict(given?: UNetResiduals): Promise<number[]> {
  using prediction = await new UNet(network).predict(sample, 321.5, text, { residuals: given });
  return [...(prediction.data as Float32Array)];
}

const distance = (a: readonly number[], b: readonly number[]) =>
  Math.max(...a.map((value, index) => Math.abs(value - (b[index] as number))));

test('the UNet predicts what diffusers predicts, with residuals and without', async () => {
  const plain = await predict();
  assert.ok(distance(plain, golden.plain) < 1e-5);
  assert.ok(distance(await predict(residuals), golden.added) < 1e-5);
  assert.ok(distance(golden.added, golden.plain) > 0.1);
  assert.deepEqual(await predict(), plain);
});

test('without residuals nothing is left of their additions', () => {
  const without = network.operators('forward', usual, ['sample']);
  const all = network.operators('forward', [...usual, ...added], ['sample']);
  assert.equal((all['aten::add'] ?? 0) - (without['aten::add'] ?? 0), added.length);
  assert.deepEqual({ ...all, 'aten::add': without['aten::add'] }, without);
});

test('zeros as residuals change no bit', async () => {
  const zeros = (tensor: Tensor) =>
    Tensor.fromArray(new Float32Array(tensor.data.length), tensor.shape);
  const nothing = { down: residuals.down.map(zeros), mid: zeros(residuals.mid) };
  assert.deepEqual(await predict(nothing), await predict());
  for (const tensor of [...nothing.down, nothing.mid]) tensor.dispose();
});

test('residuals for another number of skip connections are refused', async () => {
  const tooFew = { ...residuals, down: residuals.down.slice(1) };
  await assert.rejects(predict(tooFew), {
    code: 'ERR_CHECKPOINT',
    message: /residuals for 4 skip connections but received 3.*Use a ControlNet/,
  });
});

test('an input that is missing and one that is unknown are named', async () => {
  const run = (inputs: Record<string, Tensor>) => network.run('forward', inputs, ['sample']);
  await assert.rejects(run({ sample, timestep: sample }), {
    code: 'ERR_PROGRAM',
    message: /needs the input encoder_hidden_states/,
  });
  await assert.rejects(
    run({ sample, timestep: sample, encoder_hidden_states: text, image_embeds: text }),
    { code: 'ERR_PROGRAM', message: /has no input image_embeds/ },
  );
});

test('an input that a program cannot do without is never optional', async () => {
  const manifest = join(bundledProgramFolder, 'manifest.json');
  const { programs } = JSON.parse(readFileSync(manifest, 'utf8')) as { programs: ProgramRecord[] };
  const record = programs.find(({ name }) => name === 'demo-unet');
  assert.ok(record !== undefined);
  const program = brotliDecompressSync(readFileSync(join(bundledProgramFolder, record.file)));
  const load = (name: string) =>
    callAsync((core) => core.loadProgram(program, [record.inputs.indexOf(name)]));
  for (const name of usual) {
    await assert.rejects(load(name), { code: 'ERR_PROGRAM', message: /optional input/ });
  }
  for (const name of added) await load(name);
});
