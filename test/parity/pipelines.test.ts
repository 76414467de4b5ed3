// Whole pipelines against diffusers: the same checkpoints, options and seeds on both sides.

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { memoryStats } from '../../lib/index.js';
import { ensurePython } from '../../scripts/python.js';
import type { ParityCase } from './case.js';
import { checkExpected, compare, type Difference } from './compare.js';
import { type DiffusersResult, runDiffusers } from './diffusers.js';
import { schedulerMatrix, thinMatrix } from './matrix.js';
import {
  chains,
  imageToImageOptions,
  layoutCases,
  type OptionInputs,
  schedulerOptions,
  textToImageOptions,
} from './option-cases.js';
import { printMaxima } from './report.js';
import { TorchbrushRunner } from './torchbrush.js';
import {
  exportCheckpointPrograms,
  initImage,
  makeCheckpoints,
  runFolder,
  saveImage,
  saveTensor,
} from './workspace.js';

const say = (line: string) => console.error(`parity: ${line}`);
const python = await ensurePython({ log: say });
const { folder, remove } = await runFolder();

say('making checkpoints with random weights');
const checkpoints = await makeCheckpoints(python, [
  'two-levels:1',
  'two-levels:1:sd15',
  'two-levels:1:nitro-diffusion',
  'two-levels:1:outdated-scheduler',
  'two-levels:2',
  'three-levels:3',
  'three-levels:3:sd21',
  'three-levels:3:sharded',
  'four-levels:4',
  'four-levels:5',
  'factor-one:6',
]);
const plain = Object.entries(checkpoints).filter(([name]) => name.split(':').length === 2);

say('exporting the programs of their architectures');
await exportCheckpointPrograms(
  python,
  plain.map(([, path]) => path),
);

const cases = await makeCases();
say(`drawing ${cases.length} cases with diffusers`);
const expected = await runDiffusers(python, cases, folder);

const runner = new TorchbrushRunner();
const differences = new Map<ParityCase, Difference>();
let drawing = 0;

after(async () => {
  printMaxima(differences, expected, drawing);
  await remove();
});

describe('torchbrush draws what diffusers draws', () => {
  for (const one of cases) {
    test(one.name, async () => {
      const theirs = expected.get(one.name) as DiffusersResult;
      await checkExpected(one, expected);
      const ours = await runner.run(one);
      drawing += ours.seconds;
      differences.set(one, await compare(one, theirs, ours));
    });
  }
  test('no tensor or network is left behind', () => {
    runner.dispose();
    const { tensors, networks } = memoryStats();
    assert.deepEqual({ tensors, networks }, { tensors: 0, networks: 0 });
  });
});

async function makeCases(): Promise<ParityCase[]> {
  const image = (name: string, width: number, height: number, phase = 0) =>
    saveImage(folder, name, initImage(width, height, phase));
  const small = await image('small', 24, 32);
  const odd = await image('odd', 72, 104, 2);
  const inputs: OptionInputs = {
    small: checkpoints['two-levels:2'],
    large: checkpoints['four-levels:5'],
    short: checkpoints['three-levels:3'],
    images: [small, await image('second', 24, 32, 1), await image('third', 41, 30, 3)],
    odd,
    embeddings: [
      await saveTensor(folder, 'embeddings', [2, 77, 32]),
      await saveTensor(folder, 'negative-embeddings', [2, 77, 32]),
      await saveTensor(folder, 'long-embeddings', [1, 90, 32]),
    ],
    latents: [
      await saveTensor(folder, 'latents-of-two', [2, 4, 16, 12]),
      await saveTensor(folder, 'latents', [1, 4, 16, 12]),
    ],
    pixels: await saveTensor(folder, 'pixels', [1, 3, 32, 24], 0.15, 0.5),
  };
  const subject = (
    name: keyof typeof checkpoints,
    width: number,
    height: number,
    file: string,
  ) => ({
    label: name.replace(':', ' '),
    checkpoint: checkpoints[name],
    image: { files: [file] },
    height,
    width,
    seed: Number(name.split(':')[1]),
  });
  const published = checkpoints['two-levels:1:sd15'];
  const outdated = checkpoints['two-levels:1:outdated-scheduler'];
  const layouts = layoutCases(
    {
      'a folder as Stable Diffusion 1.5 was published': { checkpoint: published },
      'its fp16 variant': { checkpoint: published, variant: 'fp16' },
      'a folder as style fine-tunes were published': {
        checkpoint: checkpoints['two-levels:1:nitro-diffusion'],
      },
      'a folder as Stable Diffusion 2.1 was published': {
        checkpoint: checkpoints['three-levels:3:sd21'],
      },
      'weights in several files': { checkpoint: checkpoints['three-levels:3:sharded'] },
      'weights in several files, fp16 variant': {
        checkpoint: checkpoints['three-levels:3:sharded'],
        variant: 'fp16',
      },
      'a scheduler file that must be put right': { checkpoint: outdated },
    },
    small,
  );
  const [mended] = layoutCases(
    { 'another scheduler after one that was put right': { checkpoint: outdated } },
    small,
  );
  // The mended field is one of those that pass from class to class only if the file had it.
  const leading = {
    class: 'EulerDiscreteScheduler',
    config: { timestepSpacing: 'leading' },
  } as const;
  return [
    ...schedulerMatrix(subject('two-levels:1:sd15', 24, 32, small)),
    ...layouts,
    { ...(mended as ParityCase), scheduler: leading },
    // The network halves 10×6 latents to 5×3 and 3×2, and must find the way back.
    ...thinMatrix(subject('three-levels:3', 24, 40, small), 0),
    ...thinMatrix(subject('four-levels:4', 104, 72, odd), 1),
    ...thinMatrix(subject('factor-one:6', 16, 24, small), 2),
    ...imageToImageOptions(inputs),
    ...textToImageOptions(inputs),
    ...schedulerOptions(inputs),
    ...chains(inputs),
  ];
}
