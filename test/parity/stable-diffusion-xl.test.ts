// Stable Diffusion XL, base and refiner, against diffusers.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { memoryStats } from '../../lib/index.js';
import { ensurePython } from '../../scripts/python.js';

import { checkExpected, compare } from './compare.js';
import { type DiffusersResult, runDiffusers } from './diffusers.js';
import { TorchbrushRunner } from './torchbrush.js';
import {
  exportCheckpointPrograms,
  initImage,
  makeCheckpoints,
  runFolder,
  saveImage,
  saveTensor,
} from './workspace.js';
import { xlCases } from './xl-cases.js';

const say = (line: string) => console.error(`parity: ${line}`);
const python = await ensurePython({ log: say });
const { folder, remove } = await runFolder();
const checkpoints = await makeCheckpoints(python, ['xl-base:1', 'xl-base:2', 'xl-refiner:3']);
await exportCheckpointPrograms(python, Object.values(checkpoints));

const image = (name: string, width: number, height: number, phase = 0) =>
  saveImage(folder, name, initImage(width, height, phase));
const cases = xlCases({
  base: checkpoints['xl-base:1'],
  other: checkpoints['xl-base:2'],
  refiner: checkpoints['xl-refiner:3'],
  images: [await image('small', 24, 32), await image('second', 41, 30, 1)],
  promptEmbeds: await saveTensor(folder, 'xl-embeddings', [2, 77, 80]),
  negativePromptEmbeds: await saveTensor(folder, 'xl-negative', [2, 77, 80]),
  pooledPromptEmbeds: await saveTensor(folder, 'xl-pooled', [2, 24]),
  negativePooledPromptEmbeds: await saveTensor(folder, 'xl-negative-pooled', [2, 24]),
  latents: await saveTensor(folder, 'xl-latents', [1, 4, 16, 12]),
});

let expected: Map<string, DiffusersResult>;
before(async () => {
  say(`drawing ${cases.length} cases of Stable Diffusion XL with diffusers`);
  expected = await runDiffusers(python, cases, folder);
});

const runner = new TorchbrushRunner();
let largest = 0;
after(async () => {
  say(`largest picture difference of Stable Diffusion XL: ${largest.toExponential(1)}`);
  await remove();
});

describe('Stable Diffusion XL draws what diffusers draws', () => {
  for (const one of cases) {
    test(one.name, async () => {
      await checkExpected(one, expected);
      const theirs = expected.get(one.name) as DiffusersResult;
      const { picture } = await compare(one, theirs, await runner.run(one));
      largest = Math.max(largest, picture);
    });
  }
  test('no tensor or network is left behind', () => {
    runner.dispose();
    const { tensors, networks } = memoryStats();
    assert.deepEqual({ tensors, networks }, { tensors: 0, networks: 0 });
  });
});
