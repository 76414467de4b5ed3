// What diffusers makes with Kandinsky 2.2, and the comparison with what torchbrush makes.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { snakeCaseKeys, type TensorFile } from './case.js';
import { largestDifference, pictureTolerance } from './compare.js';
import type { KandinskyCase } from './kandinsky-cases.js';
import type { KandinskyCheckpoints, KandinskyResult } from './kandinsky-runner.js';
import { pythonEnvironment, pythonScripts, readTensorFile } from './workspace.js';

const run = promisify(execFile);

export type KandinskyAnswer =
  | { picture: TensorFile; steps: TensorFile }
  | { imageEmbeds: TensorFile; negativeImageEmbeds: TensorFile };

export type KandinskyAnswers = Record<string, KandinskyAnswer>;

/** Embeddings may differ by so much, as a share of their largest value: rounding, step by step. */
const embeddingTolerance = 1e-5;

/** The result of each case by name; `folder` gets the files. @throws where diffusers refuses one */
export async function runKandinsky(
  python: string,
  cases: readonly KandinskyCase[],
  checkpoints: KandinskyCheckpoints,
  folder: string,
): Promise<KandinskyAnswers> {
  const request = join(folder, 'kandinsky-cases.json');
  const pythonCases = cases.map((one) => pythonCase(one, checkpoints));
  await writeFile(request, JSON.stringify({ cases: pythonCases }));
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
  return Object.fromEntries(entries) as KandinskyAnswers;
}

function pythonCase(one: KandinskyCase, checkpoints: KandinskyCheckpoints): object {
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

/** The largest differences: absolute of pictures, as a share of the largest value otherwise. */
export interface KandinskyDifference {
  picture: number;
  latents: number;
  embeddings: number;
}

/**
 * @param tolerance Of embeddings, as a share of their largest value.
 * @throws AssertionError where they differ by more than rounding
 */
export async function compareKandinsky(
  theirs: KandinskyAnswer,
  { tensors, shapes }: KandinskyResult,
  tolerance = embeddingTolerance,
): Promise<KandinskyDifference> {
  const found: KandinskyDifference = { picture: 0, latents: 0, embeddings: 0 };
  if ('picture' in theirs) {
    assert.deepEqual(shapes.picture, theirs.picture.shape);
    const steps = await differences(theirs.steps, tensors.steps as Float32Array);
    const picture = await differences(theirs.picture, tensors.picture as Float32Array);
    assert.ok(
      picture.absolute <= pictureTolerance,
      `the pictures differ by ${picture.absolute}, the latents by ${steps.relative} (relative)`,
    );
    return { ...found, picture: picture.absolute, latents: steps.relative };
  }
  for (const name of ['imageEmbeds', 'negativeImageEmbeds'] as const) {
    assert.deepEqual(shapes[name], theirs[name].shape);
    const { relative } = await differences(theirs[name], tensors[name] as Float32Array);
    found.embeddings = Math.max(found.embeddings, relative);
    assert.ok(relative <= tolerance, `${name} differs by ${relative} (relative)`);
  }
  return found;
}

async function differences(
  theirs: TensorFile,
  ours: Float32Array,
): Promise<{ absolute: number; relative: number }> {
  const values = await readTensorFile(theirs);
  const absolute = largestDifference(values, ours);
  const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return { absolute, relative: absolute / largest };
}

/** What diffusers makes says something: neither flat nor the same as another case gives. */
export async function checkKandinsky(
  one: KandinskyCase,
  expected: KandinskyAnswers,
): Promise<void> {
  const main = mainTensor(expected[one.name] as KandinskyAnswer);
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

function mainTensor(answer: KandinskyAnswer): TensorFile {
  return 'picture' in answer ? answer.picture : answer.imageEmbeds;
}
