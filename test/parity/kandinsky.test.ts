// Kandinsky 2.2 against diffusers: the same checkpoints, options and seeds on both sides.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { promisify } from 'node:util';

import { memoryStats } from '../../lib/index.js';
import { ensurePython } from '../../scripts/python.js';
import { snakeCaseKeys, type TensorFile } from './case.js';
import { largestDifference, pictureTolerance } from './compare.js';
import {
  combinedCases,
  decoderCases,
  imageToImageCases,
  type KandinskyCase,
  type KandinskyInputs,
  priorCases,
} from './kandinsky-cases.js';
import { testKandinskyOptions } from './kandinsky-options.js';
import { KandinskyRunner } from './kandinsky-runner.js';
import {
  exportCheckpointPrograms,
  initImage,
  makeKandinskyCheckpoints,
  pythonEnvironment,
  pythonScripts,
  readTensorFile,
  runFolder,
  saveImage,
  saveTensor,
} from './workspace.js';

const run = promisify(execFile);
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
const expected = await runDiffusers();

/** Embeddings may differ by so much, as a share of their largest value: rounding, step by step. */
const embeddingTolerance = 1e-5;

const runner = new KandinskyRunner(checkpoints);
const worst = { picture: 0, latents: 0, embeddings: 0 };

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
      const theirs = expected[one.name] as Answer;
      await checkExpected(one);
      const ours = await runner.run(one);
      if ('picture' in theirs) {
        assert.deepEqual(ours.shapes.picture, theirs.picture.shape);
        const steps = await differences(theirs.steps, ours.tensors.steps as Float32Array);
        const picture = await differences(theirs.picture, ours.tensors.picture as Float32Array);
        worst.picture = Math.max(worst.picture, picture.absolute);
        worst.latents = Math.max(worst.latents, steps.relative);
        assert.ok(
          picture.absolute <= pictureTolerance,
          `the pictures differ by ${picture.absolute}, the latents by ${steps.relative} (relative)`,
        );
        return;
      }
      for (const name of ['imageEmbeds', 'negativeImageEmbeds'] as const) {
        assert.deepEqual(ours.shapes[name], theirs[name].shape);
        const { relative } = await differences(theirs[name], ours.tensors[name] as Float32Array);
        worst.embeddings = Math.max(worst.embeddings, relative);
        assert.ok(relative <= embeddingTolerance, `${name} differs by ${relative} (relative)`);
      }
    });
  }
  test('no tensor or network is left behind', () => {
    runner.dispose();
    const { tensors, networks } = memoryStats();
    assert.deepEqual({ tensors, networks }, { tensors: 0, networks: 0 });
  });
});

type Answer =
  | { picture: TensorFile; steps: TensorFile }
  | { imageEmbeds: TensorFile; negativeImageEmbeds: TensorFile };

async function runDiffusers(): Promise<Record<string, Answer>> {
  const request = join(folder, 'kandinsky-cases.json');
  await writeFile(request, JSON.stringify({ cases: cases.map(pythonCase) }));
  const output = join(folder, 'kandinsky');
  const script = join(pythonScripts, 'run_kandinsky.py');
  await run(python, [script, request, '--output', output], {
    env: pythonEnvironment,
    maxBuffer: 2 ** 26,
  });
  const text = await readFile(join(output, 'results.json'), 'utf8');
  const results = JSON.parse(text) as Record<string, Record<string, TensorFile | string>>;
  for (const [name, { error }] of Object.entries(results)) {
    if (error !== undefined) throw new Error(`diffusers refuses "${name}":\n${String(error)}`);
  }
  const camelCase = (name: string) =>
    name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
  const entries = Object.entries(results).map(([name, answer]) => [
    name,
    Object.fromEntries(Object.entries(answer).map(([key, value]) => [camelCase(key), value])),
  ]);
  return Object.fromEntries(entries) as Record<string, Answer>;
}

function pythonCase(one: KandinskyCase): object {
  const { name, pipeline, scheduler, images, ingredients, seeds } = one;
  return {
    ...{ name, pipeline, ...checkpoints[one.checkpoint] },
    ...{ images: images ?? null, ingredients: ingredients ?? null },
    scheduler:
      scheduler === undefined
        ? null
        : { class: scheduler.class, config: snakeCaseKeys(scheduler.config ?? {}) },
    options: snakeCaseKeys(one.options),
    tensors: snakeCaseKeys(one.tensors ?? {}),
    seeds: seeds ?? null,
  };
}

interface Difference {
  absolute: number;
  /** As a share of the largest value. */
  relative: number;
}

async function differences(theirs: TensorFile, ours: Float32Array): Promise<Difference> {
  const values = await readTensorFile(theirs);
  const absolute = largestDifference(values, ours);
  const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return { absolute, relative: absolute / largest };
}

/** What diffusers makes says something: neither flat nor the same as another case gives. */
async function checkExpected(one: KandinskyCase): Promise<void> {
  const main = mainTensor(expected[one.name] as Answer);
  const values = await readTensorFile(main);
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
  assert.ok(Math.sqrt(variance) > 0.05, `the expected result is flat: ${Math.sqrt(variance)}`);
  const other = one.differsFrom === undefined ? undefined : expected[one.differsFrom];
  if (other === undefined) {
    assert.equal(one.differsFrom, undefined, `there is no case "${one.differsFrom}"`);
    return;
  }
  if (mainTensor(other).shape.join() !== main.shape.join()) return;
  const difference = largestDifference(await readTensorFile(mainTensor(other)), values);
  assert.ok(difference > 1e-3, `diffusers makes the same as in "${one.differsFrom}"`);
}

function mainTensor(answer: Answer): TensorFile {
  return 'picture' in answer ? answer.picture : answer.imageEmbeds;
}

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
