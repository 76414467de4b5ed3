// Compares what both libraries drew, and says where they part.
import assert from 'node:assert/strict';

import type { ParityCase } from './case.js';
import type { DiffusersResult } from './diffusers.js';
import type { TorchbrushResult } from './torchbrush.js';
import { readTensorFile } from './workspace.js';

/**
 * Largest difference of a picture's values in 0..1. The project promises 1e-4; both sides add up the
 * same float32 numbers in slightly different order, which guidance and the networks amplify.
 */
export const pictureTolerance = 1e-4;

/** The same for final latents, as a share of their largest value. */
const latentsTolerance = 1e-4;

/** A value next to the middle between two of 256 levels may fall to either side. */
const levelTolerance = 1 / 255 + 1e-6;

export interface Difference {
  /** Largest absolute difference of the pictures' values; 0 where only latents were asked for. */
  picture: number;
  /** Largest difference of the final latents, as a share of their largest value. */
  latents: number;
}

/** @throws AssertionError that names the first step at which the latents differ */
export async function compare(
  one: ParityCase,
  theirs: DiffusersResult,
  ours: TorchbrushResult,
): Promise<Difference> {
  assertTimesteps(ours.timesteps, theirs.timesteps);
  const steps = await stepDifferences(theirs, ours);
  const latents = steps.at(-1) ?? 0;
  const tensor = one.output === 'latent' ? 'latents' : 'picture';
  assert.deepEqual(
    [...ours.shape],
    theirs.tensors[tensor].shape,
    `the shapes of the ${tensor} differ`,
  );
  const picture = ours.picture === undefined ? 0 : await pictureDifference(theirs, ours.picture);
  const errors: [string, number, number][] = [
    ['latents', latents, latentsTolerance],
    ['picture', picture, one.output === 'image' ? levelTolerance : pictureTolerance],
  ];
  for (const [what, error, tolerance] of errors) {
    if (error <= tolerance) continue;
    const list = steps.map((step) => step.toExponential(1)).join(', ');
    assert.fail(
      `the ${what} differ by ${error}, the latents after each step by ${list} (relative)`,
    );
  }
  return { picture: one.output === 'image' ? 0 : picture, latents };
}

/** Timesteps that are derived from noise levels in float32 may differ in the last bit. */
export function assertTimesteps(ours: readonly number[], theirs: readonly number[]): void {
  const close =
    ours.length === theirs.length &&
    ours.every((t, index) => Math.abs(t - (theirs[index] as number)) <= 1e-6 * Math.max(t, 1));
  if (!close) assert.deepEqual(ours, theirs, 'the timesteps differ');
}

async function pictureDifference(theirs: DiffusersResult, ours: Float32Array): Promise<number> {
  return largestDifference(await readTensorFile(theirs.tensors.picture), ours);
}

async function stepDifferences(theirs: DiffusersResult, ours: TorchbrushResult): Promise<number[]> {
  const all = await readTensorFile(theirs.tensors.steps);
  const size = all.length / ours.steps.length;
  return ours.steps.map((step, index) => {
    const expected = all.subarray(index * size, (index + 1) * size);
    return largestDifference(expected, step) / largest(expected);
  });
}

export function largestDifference(a: Float32Array, b: Float32Array): number {
  assert.equal(a.length, b.length, 'the arrays have different lengths');
  let worst = 0;
  for (const [index, value] of a.entries()) {
    const difference = Math.abs(value - (b[index] as number));
    // NaN anywhere is a difference, not a pass.
    if (!(difference <= worst))
      worst = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
  }
  return worst;
}

function largest(values: Float32Array): number {
  return values.reduce((worst, value) => Math.max(worst, Math.abs(value)), 0);
}

/** A picture that says something: spread over 0..1, not clipped, and not what another case gives. */
export async function checkExpected(
  one: ParityCase,
  results: ReadonlyMap<string, DiffusersResult>,
): Promise<void> {
  const result = results.get(one.name) as DiffusersResult;
  assert.ok(result.spread > 0.05, `the expected picture is flat: ${result.spread}`);
  assert.ok(result.saturated < 0.2, `the expected picture is clipped: ${result.saturated}`);
  if (one.differsFrom === undefined) return;
  const other = results.get(one.differsFrom);
  assert.ok(other !== undefined, `there is no case "${one.differsFrom}"`);
  const [a, b] = [other.tensors.picture, result.tensors.picture];
  if (a.shape.join() !== b.shape.join()) return;
  const difference = largestDifference(await readTensorFile(a), await readTensorFile(b));
  assert.ok(difference > 1e-2, `diffusers draws the same as in "${one.differsFrom}"`);
}
