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

/** mulberry32: small, and the same on every machine. */
function randomNumbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

type Random = ReturnType<typeof randomNumbers>;

/** One change in the first `region` bytes: bits flipped, digits changed, a piece cut out or doubled. */
function mutated(bytes: Buffer, region: number, random: Random): Buffer {
  const copy = Buffer.from(bytes);
  const end = Math.min(region, bytes.length);
  switch (random(5)) {
    case 0:
      return copy.subarray(0, random(end));
    case 1: {
      const from = random(end);
      return Buffer.concat([copy.subarray(0, from), copy.subarray(from + 1 + random(16))]);
    }
    case 2: {
      const from = random(end);
      const piece = copy.subarray(from, from + 1 + random(64));
      return Buffer.concat([copy.subarray(0, from), piece, copy.subarray(from)]);
    }
    case 3: {
      // Digits, so that the file stays JSON and the numbers in it go wrong.
      const digits = [...copy.subarray(0, end).keys()].filter((i) => isDigit(copy[i]));
      for (let i = 0; i < 1 + random(3); i += 1)
        copy[digits[random(digits.length)] ?? 0] = 0x30 + random(10);
      return copy;
    }
    default:
      for (let i = 0; i < 1 + random(4); i += 1) {
        const at = random(end);
        copy[at] = (copy[at] as number) ^ (1 << random(8));
      }
      return copy;
  }
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x30 && byte <= 0x39;
}

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
