// Networks on their own, with random weights: loaded from folders and compared with what the Python
// libraries compute.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { promisify } from 'node:util';

import { readPreprocessor } from '../../lib/images/clip-preprocess.js';
import { loadImage, memoryStats, Tensor } from '../../lib/index.js';
import { AutoencoderTiny } from '../../lib/networks/autoencoder-tiny.js';
import { MoVQ } from '../../lib/networks/movq.js';
import { Network } from '../../lib/networks/network.js';
import { Prior } from '../../lib/networks/prior.js';
import { SafetyChecker } from '../../lib/networks/safety-checker.js';
import { VisionEncoder } from '../../lib/networks/vision-encoder.js';
import { ensurePython } from '../../scripts/python.js';
import { distance } from '../drawing.js';
import type { TensorFile } from './case.js';
import {
  exportCheckpointPrograms,
  pythonEnvironment,
  pythonScripts,
  readTensorFile,
  runFolder,
} from './workspace.js';

interface SafetyAnswer {
  flagged: boolean[];
  special: boolean[];
  flaggedAnyway: boolean[];
}

const python = await ensurePython({ log: (line) => console.error(line) });
const { folder, remove } = await runFolder();
after(remove);
await promisify(execFile)(python, [join(pythonScripts, 'networks.py'), folder], {
  env: pythonEnvironment,
});
await exportCheckpointPrograms(python, [folder]);

const answers = JSON.parse(await readFile(join(folder, 'answers.json'), 'utf8')) as Record<
  string,
  TensorFile
>;
const fileOf = (name: string): TensorFile => answers[name] as TensorFile;
const placement = { dtype: 'float32', device: 'cpu' } as const;

async function input(name: string): Promise<Tensor> {
  const file = fileOf(name);
  return Tensor.fromArray(await readTensorFile(file), file.shape);
}

/** Sums in another order differ by a few units in the last place. */
async function assertClose(actual: Tensor, name: string): Promise<void> {
  const file = fileOf(name);
  assert.deepEqual([...actual.shape], file.shape, name);
  const difference = distance(await actual.toFloat32Array(), await readTensorFile(file));
  assert.ok(difference < 1e-5, `${name} differs by ${difference}`);
}

/** Runs a test on a component, and counts what it leaves behind. */
async function withNetwork(
  name: string,
  className: string,
  run: (network: Network) => Promise<void>,
): Promise<void> {
  const before = memoryStats();
  const network = await Network.load(join(folder, name), className, placement);
  try {
    await run(network);
  } finally {
    network.dispose();
  }
  assert.deepEqual(memoryStats(), before);
}

test('MoVQ encodes and decodes as VQModel does without its codebook', async () => {
  await withNetwork('movq', 'VQModel', async (network) => {
    const movq = new MoVQ(network);
    assert.deepEqual([movq.scaleFactor, movq.latentChannels], [2, 4]);
    using pixels = await input('movq.pixels');
    using latents = await movq.encode(pixels);
    await assertClose(latents, 'movq.latents');
    using decoded = await movq.decode(latents);
    await assertClose(decoded, 'movq.decoded');
  });
});

test('the prior predicts and denormalises as PriorTransformer does', async () => {
  await withNetwork('prior', 'PriorTransformer', async (network) => {
    const prior = new Prior(network);
    assert.deepEqual([prior.embeddingDim, prior.maxTokens], [24, 9]);
    using sample = await input('prior.sample');
    using projEmbedding = await input('prior.pooled');
    using encoderHiddenStates = await input('prior.hidden');
    using attentionMask = await input('prior.mask');
    const conditions = { projEmbedding, encoderHiddenStates, attentionMask };
    using predicted = await prior.predict(sample, 777, conditions);
    await assertClose(predicted, 'prior.predicted');
    using embeddings = await prior.denormalize(predicted);
    await assertClose(embeddings, 'prior.denormalized');
  });
});

for (const name of ['image_encoder', 'image_encoder_unwrapped']) {
  test(`the folder ${name} gives CLIPVisionModelWithProjection's embeddings`, async () => {
    await withNetwork(name, 'CLIPVisionModelWithProjection', async (network) => {
      const encoder = new VisionEncoder(network);
      assert.deepEqual([encoder.imageSize, encoder.projectionDim], [28, 24]);
      using pixels = await input('image_encoder.pixels');
      using embeddings = await encoder.encode(pixels);
      await assertClose(embeddings, 'image_encoder.embeddings');
    });
  });
}

for (const slicing of [false, true]) {
  const how = slicing ? 'picture by picture' : 'at once';
  test(`the tiny autoencoder encodes and decodes as AutoencoderTiny does, ${how}`, async () => {
    const before = memoryStats();
    const vae = await AutoencoderTiny.load(join(folder, 'vae'), placement);
    try {
      vae.slicing = slicing;
      assert.deepEqual([vae.scaleFactor, vae.latentChannels, vae.scalingFactor], [4, 4, 1]);
      using pixels = await input('vae.pixels');
      using latents = await vae.encode(pixels);
      await assertClose(latents, 'vae.latents');
      using decoded = await vae.decode(latents);
      await assertClose(decoded, 'vae.decoded');
    } finally {
      vae.network.dispose();
    }
    assert.deepEqual(memoryStats(), before);
  });
}

const checkers = [
  { name: 'safety_checker', variant: undefined },
  { name: 'safety_checker_published', variant: 'fp16' },
];
for (const { name, variant } of checkers) {
  test(`the folder ${name} flags the pictures that diffusers flags`, async () => {
    const before = memoryStats();
    const preprocessor = await readPreprocessor(join(folder, 'feature_extractor'));
    const checker = await SafetyChecker.load(join(folder, name), {
      ...placement,
      variant,
      preprocessor,
    });
    try {
      const { flagged } = answers[name] as unknown as SafetyAnswer;
      const images = await Promise.all(
        flagged.map((_, i) => loadImage(join(folder, 'pictures', `${i}.png`))),
      );
      assert.deepEqual(await checker.check(images), flagged);
      for (const wanted of [true, false]) assert.ok(flagged.includes(wanted));
      // Pictures in a batch do not judge one another.
      for (const [i, image] of images.entries()) {
        assert.deepEqual(await checker.check([image]), [flagged[i]]);
      }
    } finally {
      checker.network.dispose();
    }
    assert.deepEqual(memoryStats(), before);
  });
}

test('among the pictures are all that the special concepts decide differently', () => {
  const { flagged, special, flaggedAnyway } = answers.safety_checker as unknown as SafetyAnswer;
  const kinds = new Set(flagged.map((flag, i) => `${special[i]} ${flaggedAnyway[i]} ${flag}`));
  for (const kind of ['true false true', 'true false false', 'false false false']) {
    assert.ok(kinds.has(kind), kind);
  }
});

test('a checker whose pictures would have another size says so', async () => {
  const checker = await SafetyChecker.load(join(folder, 'safety_checker'), placement);
  try {
    const image = await loadImage(join(folder, 'pictures', '0.png'));
    await assert.rejects(checker.check([image]), {
      code: 'ERR_CHECKPOINT',
      message: /28×28 pixels.*224×224/,
    });
    await assert.rejects(checker.check([]), { code: 'ERR_INVALID_ARGUMENT' });
  } finally {
    checker.network.dispose();
  }
});

test('blackening leaves the other pictures as they are', async () => {
  const before = memoryStats();
  {
    using pixels = Tensor.fromArray(Float32Array.of(1, 2, NaN, 4, 5, 6), [3, 1, 1, 2]);
    using blackened = SafetyChecker.blacken(pixels, [false, true, false]);
    assert.deepEqual([...(await blackened.toFloat32Array())], [1, 2, 0, 0, 5, 6]);
    using same = SafetyChecker.blacken(pixels, [false, false, false]);
    assert.deepEqual([...same.shape], [3, 1, 1, 2]);
  }
  assert.deepEqual(memoryStats(), before);
});
