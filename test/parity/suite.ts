// A suite that draws cases with both libraries and compares the pictures.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { memoryStats } from '../../lib/index.js';
import type { ParityCase } from './case.js';
import { checkExpected, compare } from './compare.js';
import { type DiffusersResult, runDiffusers } from './diffusers.js';
import { TorchbrushRunner } from './torchbrush.js';

export const say = (line: string) => console.error(`parity: ${line}`);

interface Suite {
  /** What is drawn with, for the titles. */
  subject: string;
  python: string;
  folder: string;
  cases: readonly ParityCase[];
  /** Called when all is done. */
  remove(): Promise<void>;
}

/** One test for each case, and one that nothing is left behind. */
export function describeSuite({ subject, python, folder, cases, remove }: Suite): void {
  let expected: Map<string, DiffusersResult>;
  let largest = 0;
  const runner = new TorchbrushRunner();
  before(async () => {
    say(`drawing ${cases.length} cases of ${subject} with diffusers`);
    expected = await runDiffusers(python, cases, folder);
  });
  after(async () => {
    say(`largest picture difference of ${subject}: ${largest.toExponential(1)}`);
    await remove();
  });
  describe(`${subject} draws what diffusers draws`, () => {
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
}
