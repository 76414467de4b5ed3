// Kandinsky 2.2 against diffusers: the same checkpoints, options and seeds on both sides.

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';

import { memoryStats } from '../../lib/index.js';
import { ensurePython } from '../../scripts/python.js';
import {
  combinedCases,
  decoderCases,
  imageToImageCases,
  type KandinskyInputs,
  priorCases,
} from './kandinsky-cases.js';
import {
  checkKandinsky,
  compareKandinsky,
  type KandinskyAnswer,
  type KandinskyDifference,
  runKandinsky,
} from './kandinsky-compare.js';
import { testKandinskyOptions } from './kandinsky-options.js';
import { KandinskyRunner } from './kandinsky-runner.js';
import {
  exportCheckpointPrograms,
  initImage,
  makeKandinskyCheckpoints,
  runFolder,
  saveImage,
  saveTensor,
} from './workspace.js';

const say = (line: string) => console.error(`parity: ${line}`);
const python = await ensurePython({ log: say });
const { folder, remove } = await runFolder();

say('making Kandinsky checkpoints with random weights');
const checkpoints = await makeKandinskyCheckpoints(python, ['two-levels:1', 'three-levels:2']);
say('exporting the programs of their architectures');
await exportCheckpointPrograms(
  python,
  Object.values(checkpoints).flatMap(({ prior, decoder }) => [prior, decoder]),
);

const inputs = await makeInputs();
const cases = [
  ...priorCases(inputs),
  ...decoderCases(inputs),
  ...imageToImageCases(inputs),
  ...combinedCases(inputs),
];
say(`making ${cases.length} cases with diffusers`);
const expected = await runKandinsky(python, cases, checkpoints, folder);

const runner = new KandinskyRunner(checkpoints);
const worst: KandinskyDifference = { picture: 0, latents: 0, embeddings: 0 };

after(async () => {
  for (const [what, difference] of Object.entries(worst)) {
    say(`Kandinsky: largest difference of ${what} ${difference.toExponential(1)}`);
  }
  await remove();
});

describe('the pipelines of Kandinsky', () => testKandinskyOptions(checkpoints['two-levels:1']));

describe('torchbrush makes with Kandinsky what diffusers makes', () => {
  for (const one of cases) {
    test(one.name, async () => {
      await checkKandinsky(one, expected);
      const theirs = expected[one.name] as KandinskyAnswer;
      const found = await compareKandinsky(theirs, await runner.run(one));
      for (const name of ['picture', 'latents', 'embeddings'] as const) {
        worst[name] = Math.max(worst[name], found[name]);
      }
    });
  }
  test('no tensor or network is left behind', () => {
    runner.dispose();
    const { tensors, networks } = memoryStats();
    assert.deepEqual({ tensors, networks }, { tensors: 0, networks: 0 });
  });
});

async function makeInputs(): Promise<KandinskyInputs> {
  const image = (name: string, width: number, height: number, phase = 0) =>
    saveImage(folder, name, initImage(width, height, phase));
  const embeds = (name: string, shape: number[]) => saveTensor(folder, name, shape, 0.5);
  return {
    images: [
      await image('wide', 40, 32),
      await image('high', 31, 52, 1),
      await image('large', 230, 141, 2),
    ],
    embeddings: {
      one: await embeds('one', [1, 24]),
      notOne: await embeds('not-one', [1, 24]),
      two: await embeds('both', [2, 24]),
      notTwo: await embeds('neither', [2, 24]),
      wide: await embeds('wide-one', [1, 40]),
      notWide: await embeds('not-wide-one', [1, 40]),
    },
    noise: {
      prior: await saveTensor(folder, 'prior-noise', [1, 24]),
      priorPair: await saveTensor(folder, 'prior-noises', [2, 24]),
      decoder: await saveTensor(folder, 'decoder-noise', [1, 4, 16, 24]),
    },
    pixels: await saveTensor(folder, 'pixels', [1, 3, 36, 30], 0.15, 0.5),
    clipPixels: await saveTensor(folder, 'clip-pixels', [1, 3, 28, 28]),
  };
}
