// Bytes of a checkpoint changed at random, from a fixed seed: it loads, or it is refused in our words.
import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import {
  AutoPipelineForImage2Image,
  ClipTokenizer,
  memoryStats,
  TorchbrushError,
} from '../../lib/index.js';
import { Network } from '../../lib/networks/network.js';
import { demoCopy, demoModel } from '../helpers.js';
import { mutated, randomNumbers } from './mutation.js';

/** Loads each mutation of a file. Gives how many were refused. */
async function fuzz(
  context: Parameters<typeof demoCopy>[0],
  target: { file: string; region?: number; rounds: number; seed: number },
  load: (model: string) => Promise<unknown>,
): Promise<number> {
  const model = demoCopy(context);
  const path = join(model, target.file);
  const sound = readFileSync(path);
  const random = randomNumbers(target.seed);
  const before = memoryStats();
  let refusals = 0;
  for (let round = 0; round < target.rounds; round += 1) {
    writeFileSync(path, mutated(sound, target.region ?? sound.length, random));
    try {
      await load(model);
    } catch (error) {
      assert.ok(error instanceof TorchbrushError, `round ${round}: ${(error as Error).stack}`);
      assert.match(
        error.code,
        /^ERR_(CHECKPOINT|PROGRAM_NOT_FOUND)$/,
        `round ${round}: ${error.stack}`,
      );
      assert.ok(error.message.includes(model), `round ${round}: ${error.message}`);
      refusals += 1;
    }
    assert.deepEqual(memoryStats(), before, `round ${round}`);
  }
  return refusals;
}

async function loadTextEncoder(model: string): Promise<void> {
  const options = { dtype: 'float32', device: 'cpu' } as const;
  const network = await Network.load(join(model, 'text_encoder'), 'CLIPTextModel', options);
  network.dispose();
}

test('a weight file with changed bytes in its header loads or is refused', async (context) => {
  const target = { file: 'text_encoder/model.safetensors', region: 3648, rounds: 200, seed: 1 };
  const refusals = await fuzz(context, target, loadTextEncoder);
  assert.ok(refusals > 80, `only ${refusals} refused`);
});

test('a config.json with changed bytes loads or is refused', async (context) => {
  const target = { file: 'text_encoder/config.json', rounds: 120, seed: 2 };
  const refusals = await fuzz(context, target, loadTextEncoder);
  assert.ok(refusals > 30, `only ${refusals} refused`);
});

test('a vocabulary with changed bytes tokenizes or is refused', async (context) => {
  for (const [seed, file] of [
    'vocab.json',
    'merges.txt',
    'tokenizer.json',
    'tokenizer_config.json',
  ].entries()) {
    const target = { file: `tokenizer/${file}`, rounds: 40, seed };
    await fuzz(context, target, async (model) => {
      if (file === 'vocab.json' || file === 'merges.txt')
        rmSync(join(model, 'tokenizer/tokenizer.json'), { force: true });
      const tokenizer = await ClipTokenizer.fromFolder(join(model, 'tokenizer'));
      tokenizer.encode(['a fox, 3d style'], { maxLength: 24 });
    });
  }
});

test('a model_index.json or scheduler config with changed bytes loads or is refused', async (context) => {
  using whole = await AutoPipelineForImage2Image.fromPretrained(demoModel);
  const { vae, unet, textEncoder } = whole.components;
  for (const [seed, file] of ['model_index.json', 'scheduler/scheduler_config.json'].entries()) {
    await fuzz(context, { file, rounds: 60, seed }, async (model) => {
      using pipe = await AutoPipelineForImage2Image.fromPretrained(model, {
        vae,
        unet,
        textEncoder,
      });
      using run = pipe.scheduler.start({ numInferenceSteps: 5 });
      assert.ok(run.timesteps.length > 0);
    });
  }
});
