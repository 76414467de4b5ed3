// Whole pipelines against pictures that diffusers drew, from a tiny checkpoint in the repository.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';

import { packageRoot } from '../lib/package-root.js';
import type { ParityCase } from './parity/case.js';
import { assertTimesteps, largestDifference } from './parity/compare.js';
import { TorchbrushRunner } from './parity/torchbrush.js';

interface Expected {
  timesteps: number[];
  shape: number[];
  picture: string;
}

const folder = join(packageRoot, 'test', 'golden', 'pipelines');
process.env.TORCHBRUSH_PROGRAMS = join(folder, 'programs');

const { cases } = read<{ cases: Omit<ParityCase, 'checkpoint'>[] }>('cases.json');
const { expected } = read<{ expected: Record<string, Expected> }>('expected.json');

// 1e-4 is what the project promises for pictures in 0..1; half a step of 16 bits is the file's.
const tolerance = 1e-4 + 0.5 / 65535;
// A value next to the middle between two of 256 levels may fall to either side.
const eightBitTolerance = 1 / 255 + 1e-5;

const runner = new TorchbrushRunner();
after(() => runner.dispose());

for (const one of cases) {
  test(`${one.name}, as diffusers draws it`, async () => {
    const wanted = expected[one.name] as Expected;
    const { picture, shape, timesteps } = await runner.run(located(one));
    assertTimesteps(timesteps, wanted.timesteps);
    assert.deepEqual([...shape], wanted.shape);
    const difference = largestDifference(unpacked(wanted.picture), picture as Float32Array);
    const allowed = one.output === 'image' ? eightBitTolerance : tolerance;
    assert.ok(difference <= allowed, `the pictures differ by ${difference}`);
  });
}

test('every expected picture has its case', () => {
  assert.deepEqual(
    Object.keys(expected),
    cases.map(({ name }) => name),
  );
});

function read<Content>(name: string): Content {
  return JSON.parse(readFileSync(join(folder, name), 'utf8')) as Content;
}

function located(one: Omit<ParityCase, 'checkpoint'>): ParityCase {
  const { image } = one;
  return {
    ...one,
    checkpoint: join(folder, 'checkpoint'),
    ...(image !== undefined &&
      'files' in image && { image: { files: image.files.map((file) => join(folder, file)) } }),
  };
}

/** 16-bit integers in base64, 0 to 65535 for 0 to 1. */
function unpacked(text: string): Float32Array {
  const bytes = Buffer.from(text, 'base64');
  return Float32Array.from(
    { length: bytes.length / 2 },
    (_, i) => bytes.readUInt16LE(2 * i) / 65535,
  );
}
