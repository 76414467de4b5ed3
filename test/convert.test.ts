// torchbrush convert without Python: folders with .bin files, and what is refused. Single files, and
// what diffusers says of the result: test/parity/cli.test.ts.
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';

import { convertCheckpoint } from '../lib/checkpoints/convert.js';
import { StableDiffusionPipeline } from '../lib/index.js';
import { jsonLines, run } from './cli-process.js';
import { demoCopy, demoModel, temporaryFolder } from './helpers.js';
import { converted, readArrays } from './safetensors-writer.js';
import { savedTensors, writeStateDict } from './torch-save-writer.js';

const networks = {
  unet: ['diffusion_pytorch_model.safetensors', 'diffusion_pytorch_model.bin'],
  vae: ['diffusion_pytorch_model.safetensors', 'diffusion_pytorch_model.bin'],
  text_encoder: ['model.safetensors', 'pytorch_model.bin'],
} as const;

/** The embedded checkpoint with .bin files. */
function pickledDemo(context: { after(clean: () => void): void }): string {
  const folder = demoCopy(context);
  for (const [name, [file, pickled]] of Object.entries(networks)) {
    const path = join(folder, name, file);
    writeStateDict(join(folder, name, pickled), savedTensors(readArrays(path)));
    rmSync(path);
  }
  return folder;
}

async function draw(folder: string): Promise<Uint8Array> {
  using pipe = await StableDiffusionPipeline.fromPretrained(folder);
  const options = { prompt: 'a fox', height: 32, width: 32, numInferenceSteps: 2, seed: 1 };
  const { images } = await pipe.generate(options);
  return images[0].data;
}

test('.bin files become safetensors with the same numbers', async (context) => {
  const source = pickledDemo(context);
  const target = join(dirname(source), 'target');
  const outcome = await run(['convert', source, target, '--json']);
  assert.deepEqual([outcome.code, outcome.stderr], [0, '']);
  const [line = {}] = jsonLines(outcome);
  assert.deepEqual([line.type, line.folder], ['convert', target]);
  for (const [name, [file]] of Object.entries(networks)) {
    assert.deepEqual(readdirSync(join(target, name)).sort(), ['config.json', file].sort());
    const ours = readArrays(join(target, name, file));
    const expected = readArrays(join(demoModel, name, file));
    assert.deepEqual([...ours.keys()].sort(), [...expected.keys()].sort());
    for (const [key, array] of expected) assert.deepEqual(ours.get(key), array, key);
  }
  for (const file of ['model_index.json', 'tokenizer/vocab.json', 'unet/config.json']) {
    if (!existsSync(join(demoModel, file))) continue;
    assert.deepEqual(readFileSync(join(target, file)), readFileSync(join(demoModel, file)));
  }
  assert.deepEqual(await draw(target), await draw(demoModel));
  assert.deepEqual(readdirSync(dirname(source)).sort(), ['model', 'target']);
});

test('numbers are rounded to another format as torch rounds', async (context) => {
  const target = join(temporaryFolder(context), 'target');
  await convertCheckpoint({ source: demoModel, target, dtype: 'bfloat16' });
  const name = 'unet/diffusion_pytorch_model.safetensors';
  const ours = readArrays(join(target, name));
  for (const [key, array] of readArrays(join(demoModel, name))) {
    const single = converted(array, 'F32');
    assert.deepEqual(ours.get(key), converted(single, 'BF16'), key);
  }
});

test('a folder that is there is replaced only when asked', async (context) => {
  const target = temporaryFolder(context);
  writeFileSync(join(target, 'mine.txt'), 'x');
  const refused = await run(['convert', demoModel, target]);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /is there already.*--force.*\(ERR_CHECKPOINT\)\n$/);
  assert.deepEqual(readdirSync(target), ['mine.txt']);
  const { code } = await run(['convert', demoModel, target, '--force']);
  assert.equal(code, 0);
  assert.ok(!existsSync(join(target, 'mine.txt')));
  assert.ok(existsSync(join(target, 'model_index.json')));
});

test('nothing is left of a conversion that fails or is stopped', async (context) => {
  const source = pickledDemo(context);
  const parent = temporaryFolder(context);
  const target = join(parent, 'target');
  const controller = new AbortController();
  const stopped = convertCheckpoint({
    ...{ source, target, signal: controller.signal },
    onProgress: () => controller.abort(new Error('enough')),
  });
  await assert.rejects(stopped, /enough/);
  assert.deepEqual(readdirSync(parent), []);
  mkdirSync(join(parent, 'full'));
  rmSync(join(source, 'vae', 'diffusion_pytorch_model.bin'));
  const failed = convertCheckpoint({ source, target: join(parent, 'full'), force: true });
  await assert.rejects(failed, { code: 'ERR_CHECKPOINT' });
  assert.deepEqual(readdirSync(parent), ['full']);
});
