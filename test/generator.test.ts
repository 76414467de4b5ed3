import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { type DType, Generator } from '../lib/index.js';
import { randn } from '../lib/ops.js';

interface Case {
  seed: string;
  dtype: DType;
  shapes: number[][];
  draws: number[][];
}

const cases = JSON.parse(
  readFileSync(new URL('golden/generator.json', import.meta.url), 'utf8'),
) as Case[];

for (const { seed, dtype, shapes, draws } of cases) {
  test(`seed ${seed} draws torch.Generator's numbers in ${dtype}`, () => {
    const generator = new Generator().manualSeed(BigInt(seed));
    for (const [i, shape] of shapes.entries()) {
      using drawn = randn(shape, { generator, dtype });
      using exact = drawn.to({ dtype: 'float64' });
      assert.deepEqual([...(exact.data as Float64Array)], draws[i]);
    }
  });
}

test('seeding again starts the sequence anew, and a state can be put back', () => {
  const generator = new Generator().manualSeed(3);
  const draw = (): number[] => {
    using drawn = randn([4], { generator });
    return [...(drawn.data as Float32Array)];
  };
  const first = draw();
  using state = generator.getState();
  const second = draw();
  generator.setState(state);
  assert.deepEqual(draw(), second);
  generator.manualSeed(3);
  assert.deepEqual(draw(), first);
});

test('a negative seed is the same as its 64-bit complement, as in torch', () => {
  assert.equal(new Generator().manualSeed(-1).initialSeed, 2n ** 64n - 1n);
});

test('a seed that is no whole number is refused', () => {
  assert.throws(() => new Generator().manualSeed(1.5), { code: 'ERR_INVALID_ARGUMENT' });
});

test('generators without a seed differ', () => {
  assert.notEqual(new Generator().initialSeed, new Generator().initialSeed);
});
