// Exports small architectures of many kinds. The exporter itself compares each program with the
// library's module and fails where they differ.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, test } from 'node:test';
import { promisify } from 'node:util';
import { layoutOf } from '../../lib/checkpoints/layouts.js';
import { readSafetensorsHeader } from '../../lib/checkpoints/safetensors.js';
import { memoryStats, Tensor } from '../../lib/index.js';
import {
  type ExportedProgram,
  exportPrograms,
  type ProgramManifest,
} from '../../lib/networks/export.js';
import { Network } from '../../lib/networks/network.js';
import { ensurePython } from '../../scripts/python.js';
import { distance } from '../drawing.js';
import { text, unet, variants, vq } from './variants.js';
import { pythonEnvironment, pythonScripts } from './workspace.js';

const python = await ensurePython({ log: (line) => console.error(line) });
const folder = await mkdtemp(join(tmpdir(), 'torchbrush-export-'));
after(() => rm(folder, { recursive: true, force: true }));

let made: ExportedProgram[] = [];

test('every supported variant is exported and computes what the library computes', async () => {
  made = await exportPrograms({ requests: variants, outDir: folder, python });
  const keys = variants.map(({ key }) => key);
  assert.equal(new Set(keys).size, variants.length);
  assert.deepEqual([...new Set(made.map(({ key }) => key))], keys);
  for (const { name, entry, compared, lint } of made) {
    assert.deepEqual(
      [lint.deviceConstants, lint.tensorConstants, lint.blocks],
      [0, 0, 0],
      `${name} ${entry}`,
    );
    const dtypes = new Set(compared.map(({ dtype }) => dtype));
    assert.deepEqual([...dtypes].sort(), ['bfloat16', 'float16', 'float32'], name);
    // Same operators on the same numbers: not only close, but equal.
    for (const one of compared) assert.equal(one.bitEqual, true, `${name} ${JSON.stringify(one)}`);
  }
});

test('every variant runs here as it does in the library', async (context) => {
  const place = await mkdtemp(join(tmpdir(), 'torchbrush-variants-'));
  context.after(() => rm(place, { recursive: true, force: true }));
  const requests = variants.map((variant) => ({
    ...variant,
    fileStem: layoutOf(variant.className).fileStem,
  }));
  await writeFile(join(place, 'request.json'), JSON.stringify(requests));
  const script = join(pythonScripts, 'run_networks.py');
  const args = [script, '--request', join(place, 'request.json'), '--out', place];
  await promisify(execFile)(python, args, { env: pythonEnvironment });
  process.env.TORCHBRUSH_PROGRAMS = folder;
  for (const { name, className } of variants) {
    const options = { dtype: 'float32', device: 'cpu' } as const;
    const network = await Network.load(join(place, name), className, options);
    const cases = readdirSync(join(place, name)).filter((file) => /\.\d\.safetensors$/.test(file));
    assert.ok(cases.length >= 2);
    for (const file of cases) await assertSame(network, join(place, name, file));
    network.dispose();
  }
  assert.deepEqual(memoryStats(), { tensors: 0, tensorBytes: 0, networks: 0 });
});

/** Sums in another order differ by a few units in the last place of the largest value. */
async function assertSame(network: Network, file: string): Promise<void> {
  const [entry = ''] = basename(file).split('.');
  const values = await readTensors(file);
  const named = (isOutput: boolean) =>
    [...values].filter(([name]) => name.startsWith('out:') === isOutput);
  const outputs = named(true).map(([name]) => name.slice('out:'.length));
  const results = await network.run(entry, Object.fromEntries(named(false)), outputs);
  for (const [index, result] of results.entries()) {
    const [name, wanted] = named(true)[index] as [string, Tensor];
    const [got, expected] = [await result.toFloat32Array(), await wanted.toFloat32Array()];
    assert.deepEqual(result.shape, wanted.shape);
    const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const difference = distance(got, expected);
    assert.ok(difference <= 1e-5 * largest, `${name} in ${file} differs by ${difference}`);
    result.dispose();
  }
  for (const tensor of values.values()) tensor.dispose();
}

async function readTensors(file: string): Promise<Map<string, Tensor>> {
  const { buffer } = new Uint8Array(await readFile(file));
  const tensors = new Map<string, Tensor>();
  for (const [name, { dtype, offset, shape }] of await readSafetensorsHeader(file)) {
    const count = shape.reduce((product, size) => product * size, 1);
    const Numbers = { int64: BigInt64Array, bool: Uint8Array }[dtype as string] ?? Float32Array;
    const bytes = buffer.slice(offset, offset + count * Numbers.BYTES_PER_ELEMENT);
    const ofBool = dtype === 'bool' ? { dtype } : {};
    tensors.set(name, Tensor.fromArray(new Numbers(bytes), [...shape], ofBool));
  }
  return tensors;
}

test('every architecture gets a folder of its own with a manifest, and nothing else stays', () => {
  assert.deepEqual(readdirSync(folder).sort(), variants.map(({ key }) => key).sort());
  for (const { key } of variants) {
    const text = readFileSync(join(folder, key, 'manifest.json'), 'utf8');
    const { programs } = JSON.parse(text) as ProgramManifest;
    assert.deepEqual(
      programs,
      made.filter((program) => program.key === key),
    );
    for (const { file } of programs) assert.ok(existsSync(join(folder, key, file)));
  }
});

test('inputs follow from the architecture', () => {
  const programOf = (name: string) => made.find((program) => program.name === name);
  const needed = (name: string) => {
    const { inputs = [], optionalInputs = [] } = programOf(name) ?? {};
    return inputs.filter((input) => !optionalInputs.includes(input));
  };
  const usual = ['sample', 'timestep', 'encoder_hidden_states'];
  assert.deepEqual(needed('two-levels'), usual);
  assert.deepEqual(needed('timestep-cond'), [...usual, 'timestep_cond']);
  assert.deepEqual(needed('class-labels'), [...usual, 'class_labels']);
  assert.deepEqual(needed('text-time'), [...usual, 'text_embeds', 'time_ids']);
  assert.deepEqual(needed('by-image'), ['sample', 'timestep', 'image_embeds']);
  assert.deepEqual(needed('controlnet'), [...usual, 'controlnet_cond']);
});

test('a UNet program does without residuals, one for each output of a ControlNet', () => {
  const programOf = (name: string) => made.find((program) => program.name === name);
  for (const [unetName, controlnetName] of [
    ['two-levels', 'controlnet'],
    ['four-levels', 'controlnet-four-levels'],
  ] as const) {
    const given = programOf(controlnetName)?.outputs;
    const expected = given?.map((name) => name.replace('res_sample', 'additional_residual'));
    assert.deepEqual(programOf(unetName)?.optionalInputs, expected);
  }
  assert.deepEqual(programOf('latent-upscaler')?.optionalInputs, []);
});

test('the same architecture gives the same bytes, alone or among others', async () => {
  const [first] = variants;
  assert.ok(first !== undefined);
  const [again] = await exportPrograms({
    requests: [{ ...first, name: 'another-name' }],
    outDir: folder,
    python,
  });
  assert.equal(again?.sha256, made[0]?.sha256);
});

test('an interpreter that does not exist is named', async () => {
  await assert.rejects(
    exportPrograms({ requests: [text('text')], outDir: folder, python: '/nowhere/python' }),
    { code: 'ERR_EXPORT_PYTHON', message: /\/nowhere\/python/ },
  );
});

test('missing packages come with the command that installs them', {
  skip: process.platform === 'win32',
}, async () => {
  const bare = join(folder, 'bare-python');
  await writeFile(bare, `#!/bin/sh\nexec "${python}" -S "$@"\n`);
  await chmod(bare, 0o755);
  await assert.rejects(exportPrograms({ requests: [text('text')], outDir: folder, python: bare }), {
    code: 'ERR_EXPORT_PACKAGES',
    message: /lacks torch.* -m pip install -r .*requirements\.txt/,
  });
});

test('what the exporter does not support is said before anything is traced', async () => {
  for (const [unsupported, message] of [
    [unet('gated', { attention_type: 'gated' }), /attention_type: 'gated'/],
    [vq('lookup', { lookup_from_codebook: true }), /lookup_from_codebook: True/],
    [unet('heads', { num_attention_heads: 4 }), /number of attention heads/],
    [{ ...text('text'), className: 'T5EncoderModel' }, /T5EncoderModel/],
  ] as const) {
    await assert.rejects(exportPrograms({ requests: [unsupported], outDir: folder, python }), {
      code: 'ERR_EXPORT_UNSUPPORTED',
      message,
    });
  }
});

test('an export that fails leaves nothing behind', () => {
  const left = readdirSync(folder).filter((name) => name !== 'bare-python');
  assert.deepEqual(left.sort(), variants.map(({ key }) => key).sort());
});
