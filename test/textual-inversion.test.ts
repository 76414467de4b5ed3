// Textual inversion on the embedded model. That the numbers are diffusers' is the parity tests' matter.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';

import { configure, memoryStats, StableDiffusionPipeline } from '../lib/index.js';
import { array, write } from './adapter-files.js';
import { distance } from './drawing.js';
import { demoModel } from './helpers.js';
import { assertRefused } from './refusal.js';

configure({ threads: 1 });

let pipe: StableDiffusionPipeline;
let base: Float32Array;
const folder = mkdtempSync(join(tmpdir(), 'torchbrush-test-'));
const one = write(folder, 'one', { '<one>': array([128], 1, 1) });
const three = write(folder, 'three', { '<three>': array([3, 128], 2, 1) });
before(async () => {
  pipe = await StableDiffusionPipeline.fromPretrained(demoModel, { dtype: 'float32' });
  base = await embed('a red circle');
});
afterEach(() => pipe.unloadTextualInversion());
after(() => {
  rmSync(folder, { recursive: true });
  pipe.dispose();
  assert.deepEqual(memoryStats(), { tensors: 0, tensorBytes: 0, networks: 0 });
});

async function embed(prompt: string): Promise<Float32Array> {
  const { tokenizer, textEncoder } = pipe.components;
  const { inputIds } = tokenizer.encode([prompt]);
  using embeddings = await textEncoder.encode(inputIds);
  return embeddings.toFloat32Array();
}

test('a new word means something else, and other prompts what they meant', async () => {
  const before = await embed('a <one> circle');
  const stats = memoryStats();
  await pipe.loadTextualInversion(one);
  assert.ok(distance(await embed('a <one> circle'), before) > 1e-2);
  assert.deepEqual(await embed('a red circle'), base);
  await pipe.unloadTextualInversion('<one>');
  assert.deepEqual(await embed('a <one> circle'), before);
  assert.deepEqual(await embed('a red circle'), base);
  assert.deepEqual(memoryStats(), stats);
});

test('tokens that the encoder has no embedding for are refused before it runs', async () => {
  const { tokenizer, textEncoder } = pipe.components;
  const { size } = tokenizer;
  const refused = (id: number) =>
    assertRefused(() => textEncoder.encode([[0, id]]), {
      says: new RegExp(`token id from 0 to \\d+ for tokens but received ${id} .*tokenizer`),
    });
  await refused(-1);
  await refused(size);
  await pipe.loadTextualInversion(three);
  (await textEncoder.encode([[0, size + 2]])).dispose();
  await refused(size + 3);
  await pipe.unloadTextualInversion();
  await refused(size);
});

test('a word with three vectors takes three tokens', async () => {
  const { tokenizer } = pipe.components;
  const size = tokenizer.size;
  await pipe.loadTextualInversion(three, { token: 'sks' });
  assert.deepEqual(tokenizer.tokenize('sks'), [size, size + 1, size + 2]);
  assert.deepEqual(tokenizer.tokenize('sks, sks').filter((id) => id >= size).length, 6);
  assert.equal(tokenizer.tokenId('sks_2'), size + 2);
});

test('words can go in any order and leave the others as they were', async () => {
  await pipe.loadTextualInversion(three);
  const alone = await embed('<three>');
  await pipe.unloadTextualInversion();
  await Promise.all([pipe.loadTextualInversion(one), pipe.loadTextualInversion(three)]);
  assert.deepEqual(await embed('<three>'), alone);
  await pipe.unloadTextualInversion(['<one>']);
  assert.deepEqual(await embed('<three>'), alone);
  assert.equal(pipe.components.tokenizer.tokenId('<one>'), undefined);
});

test('files and names that do not fit are refused, and nothing changes', async () => {
  const refused = (path: string, says: RegExp, code = 'ERR_CHECKPOINT', options = {}) =>
    assertRefused(() => pipe.loadTextualInversion(path, options), { says, code });
  const bad = (name: string, arrays: Parameters<typeof write>[2]) => write(folder, name, arrays);
  await refused(bad('wide', { '<w>': array([2, 64], 1, 1) }), /have 64 numbers.*takes 128/);
  await refused(bad('deep', { '<d>': array([1, 1, 128], 1, 1) }), /no textual inversion/);
  await refused(bad('scalar', { '<s>': array([], 1, 1) }), /no textual inversion/);
  await refused(bad('many', { '<m>': array([2000, 128], 1, 1) }), /no textual inversion/);
  await refused(
    bad('two', { a: array([128], 1, 1), b: array([128], 1, 1) }),
    /should hold one tensor but holds 2/,
  );
  await refused(join(folder, 'missing.safetensors'), /is missing/);
  await refused(one, /Expected a text for token/, 'ERR_INVALID_ARGUMENT', { token: ' ' });
  await refused(one, /nonsense/, 'ERR_INVALID_ARGUMENT', { nonsense: 1 });
  await refused(one, /does not have yet for token/, 'ERR_INVALID_ARGUMENT', {
    token: 'circle</w>',
  });
  await pipe.loadTextualInversion(three, { token: 'sks' });
  await refused(one, /received "sks"/, 'ERR_INVALID_ARGUMENT', { token: 'sks' });
  await refused(one, /received "sks_1"/, 'ERR_INVALID_ARGUMENT', { token: 'sks_1' });
  await assertRefused(() => pipe.unloadTextualInversion('nothing'), { says: /loaded token/ });
  await pipe.unloadTextualInversion();
  assert.deepEqual(await embed('a red circle'), base);
});
