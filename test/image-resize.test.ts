import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { makeImageGrid, type ResizeFilter } from '../lib/image.js';
import { postprocessToImages, preprocessImages } from '../lib/images/preprocess.js';
import { noiseImage } from './helpers.js';

type Size = [number, number];
type GoldenFilter = { filter: ResizeFilter; reducingGap: number | null };

/** Written by golden/generate_resize.py from Pillow and diffusers. */
interface Golden {
  resize: (GoldenFilter & { seed: number; harsh: boolean; from: Size; to: Size; rgb: string })[];
  preprocess: (GoldenFilter & {
    seeds: number[];
    from: Size[];
    multipleOf: number;
    normalize: boolean;
    height?: number;
    width?: number;
    shape: number[];
    data: string;
  })[];
  postprocess: { shape: number[]; data: string; rgb: string };
  grid: {
    seeds: number[];
    from: Size[];
    plain: { size: Size; rgb: string };
    squares: { size: Size; rgb: string };
  };
}

const golden = JSON.parse(
  await readFile(new URL('golden/resize.json', import.meta.url), 'utf8'),
) as Golden;

function bytes(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text, 'base64'));
}

function floats(text: string): Float32Array {
  return new Float32Array(bytes(text).buffer);
}

describe('resize', () => {
  for (const { seed, harsh, from, to, filter, reducingGap, rgb } of golden.resize) {
    const gap = reducingGap === null ? '' : ` with reducing gap ${reducingGap}`;
    test(`${from.join('×')} to ${to.join('×')} by ${filter}${gap} is Pillow's, byte for byte`, () => {
      const options = { filter, reducingGap: reducingGap ?? undefined };
      const resized = noiseImage(from, seed, harsh).resize(...to, options);
      assert.deepEqual([resized.width, resized.height], to);
      assert.deepEqual(resized.data, bytes(rgb));
    });
  }

  test('is bicubic unless told otherwise', () => {
    const image = noiseImage([9, 8], 3);
    assert.deepEqual(image.resize(4, 5), image.resize(4, 5, { filter: 'bicubic' }));
  });

  test('to the same size gives a copy', () => {
    const image = noiseImage([5, 4], 1);
    const copy = image.resize(5, 4, { filter: 'lanczos' });
    assert.deepEqual(copy, image);
    assert.notEqual(copy.data.buffer, image.data.buffer);
  });

  test('refuses sizes and options that cannot be meant', () => {
    const image = noiseImage([5, 4], 1);
    const code = 'ERR_INVALID_ARGUMENT';
    for (const side of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, '5' as never]) {
      assert.throws(() => image.resize(side, 4), { code });
      assert.throws(() => image.resize(4, side), { code });
    }
    assert.throws(() => image.resize(100_000, 100_000), { code });
    assert.throws(() => image.resize(2, 2, { filter: 'cubic' as never }), { code });
    assert.throws(() => image.resize(2, 2, { reducingGap: 0.5 }), { code });
    const misspelt = { reducing_gap: 2 } as object;
    assert.throws(() => image.resize(2, 2, misspelt), { code, message: /reducingGap here/ });
  });
});

describe('preprocessing', () => {
  for (const [i, job] of golden.preprocess.entries()) {
    test(`gives the floats of diffusers' VaeImageProcessor, bit for bit (${i + 1})`, () => {
      const images = job.from.map((size, n) => noiseImage(size, job.seeds[n] as number));
      const { data, shape } = preprocessImages(images, {
        ...job,
        reducingGap: job.reducingGap ?? undefined,
      });
      assert.deepEqual(shape, job.shape);
      assert.deepEqual(data, floats(job.data));
    });
  }

  test('refuses pictures that are smaller than the scale factor', () => {
    const options = { multipleOf: 8, filter: 'lanczos' } as const;
    const small = noiseImage([7, 20], 1);
    assert.throws(() => preprocessImages([small], options), {
      code: 'ERR_INVALID_ARGUMENT',
      message: /at least 8×8 pixels but received 7×20/,
    });
  });

  test('back to a picture rounds as numpy does, halves to even', () => {
    const { shape, data, rgb } = golden.postprocess;
    const [image, ...more] = postprocessToImages(floats(data), shape);
    assert.equal(more.length, 0);
    assert.deepEqual(image?.data, bytes(rgb));
  });

  test('there and back again gives the same pictures', () => {
    const images = [noiseImage([16, 8], 5), noiseImage([16, 8], 6)];
    const options = { multipleOf: 8, filter: 'lanczos', normalize: false } as const;
    const { data, shape } = preprocessImages(images, options);
    assert.deepEqual(postprocessToImages(data, shape), images);
  });

  test('values outside 0..1 are cut off', () => {
    const values = Float32Array.of(-1, 2, Number.NaN);
    assert.deepEqual(postprocessToImages(values, [1, 3, 1, 1])[0]?.data, Uint8Array.of(0, 255, 0));
  });
});

describe('a grid', () => {
  const { seeds, from, plain, squares } = golden.grid;
  const images = from.map((size, i) => noiseImage(size, seeds[i] as number));

  test('pastes, overlaps and cuts off as in diffusers', () => {
    const grid = makeImageGrid(images, { rows: 2, cols: 3 });
    assert.deepEqual([grid.width, grid.height], plain.size);
    assert.deepEqual(grid.data, bytes(plain.rgb));
    assert.deepEqual(makeImageGrid(images, 2, 3), grid);
  });

  test('makes squares of its pictures with resize', () => {
    const grid = makeImageGrid(images, { rows: 3, cols: 2, resize: 6 });
    assert.deepEqual([grid.width, grid.height], squares.size);
    assert.deepEqual(grid.data, bytes(squares.rgb));
    assert.deepEqual(makeImageGrid(images, 3, 2, 6), grid);
  });

  test('says how many pictures it needs', () => {
    assert.throws(() => makeImageGrid(images, { rows: 2, cols: 2 }), {
      code: 'ERR_INVALID_ARGUMENT',
      message: /Expected 4 images for 2 rows and 2 columns but received 6/,
    });
    const code = 'ERR_INVALID_ARGUMENT';
    assert.throws(() => makeImageGrid([], { rows: 0, cols: 2 }), { code });
    assert.throws(() => makeImageGrid(images, 2, undefined as never), { code });
    assert.throws(() => makeImageGrid([{}] as never, 1, 1), { code });
    assert.throws(() => makeImageGrid(images, { rows: 2, cols: 3, resize: 0 }), { code });
    const misspelt = { rows: 2, cols: 3, columns: 3 };
    assert.throws(() => makeImageGrid(images, misspelt), { code, message: /no option columns/ });
  });
});
