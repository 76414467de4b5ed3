import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';

import {
  type ClipPreprocessor,
  clipPreprocessor,
  preprocessForClip,
  readPreprocessor,
} from '../lib/images/clip-preprocess.js';
import { noiseImage, temporaryFolder } from './helpers.js';

type Config = Record<string, unknown>;

/** Written by golden/generate_clip_preprocess.py from transformers. */
interface Golden {
  cases: {
    name: string;
    config: Config;
    sizes: [number, number][];
    shape: number[];
    data?: string;
    sha256?: string;
  }[];
}

const golden = JSON.parse(
  readFileSync(new URL('golden/clip-preprocess.json', import.meta.url), 'utf8'),
) as Golden;

async function read(context: TestContext, config: Config): Promise<ClipPreprocessor> {
  const folder = temporaryFolder(context);
  await writeFile(join(folder, 'preprocessor_config.json'), JSON.stringify(config));
  return await readPreprocessor(folder);
}

describe("pictures for CLIP are transformers', bit for bit:", () => {
  for (const { name, config, sizes, shape, data, sha256 } of golden.cases) {
    test(name, async (context) => {
      const images = sizes.map((size, i) => noiseImage(size, i + 1));
      const made = preprocessForClip(images, await read(context, config));
      assert.deepEqual(made.shape, shape);
      const bytes = Buffer.from(made.data.buffer);
      if (data !== undefined) assert.equal(bytes.toString('base64'), data);
      else assert.equal(createHash('sha256').update(bytes).digest('hex'), sha256);
    });
  }
});

test('a file that says nothing, or null, means what CLIP has', async (context) => {
  assert.deepEqual(await read(context, {}), clipPreprocessor);
  const nulls = { size: null, do_resize: null, resample: null, crop_size: null, image_mean: null };
  assert.deepEqual(await read(context, nulls), clipPreprocessor);
});

test('the class has had other names', async (context) => {
  for (const type of ['CLIPFeatureExtractor', 'CLIPImageProcessor', 'CLIPImageProcessorFast']) {
    assert.deepEqual(await read(context, { image_processor_type: type }), clipPreprocessor);
    assert.deepEqual(await read(context, { feature_extractor_type: type }), clipPreprocessor);
  }
});

test('fields that cannot be meant are named with their file', async (context) => {
  const wrong: [Config, RegExp][] = [
    [{ size: 'big' }, /pixels.* for size in .*preprocessor_config\.json but received "big"/],
    [{ size: 1e9 }, /up to 4096 for size/],
    [{ size: { shortest_edge: 224, longest_edge: 448 } }, /for size/],
    [{ size: [224] }, /for size/],
    [{ crop_size: -1 }, /for crop_size/],
    [{ crop_size: { width: 224 } }, /for crop_size/],
    [{ do_resize: 'yes' }, /true or false for do_resize/],
    [{ resample: 9 }, /0 to 5, for resample/],
    [{ resample: 'bicubic' }, /0 to 5, for resample/],
    [{ rescale_factor: 'none' }, /a number for rescale_factor/],
    [{ image_mean: [0.5, 0.5] }, /three numbers for image_mean/],
    [{ image_std: 0 }, /three numbers for image_std/],
    [{ image_std: [1, 1, '1'] }, /three numbers for image_std/],
    [{ image_processor_type: 'ViTImageProcessor' }, /CLIPImageProcessor .*"ViTImageProcessor"/],
  ];
  for (const [config, message] of wrong) {
    await assert.rejects(read(context, config), { code: 'ERR_CHECKPOINT', message });
  }
});

test('a missing file is named', async (context) => {
  const folder = temporaryFolder(context);
  await assert.rejects(readPreprocessor(folder), {
    code: 'ERR_CHECKPOINT',
    message: /preprocessor_config\.json is missing/,
  });
});

test('pictures of several sizes need a crop', () => {
  const images = [noiseImage([8, 9], 1), noiseImage([8, 8], 2)];
  const whole = { ...clipPreprocessor, crop: undefined, resize: undefined };
  assert.throws(() => preprocessForClip(images, whole), {
    code: 'ERR_INVALID_ARGUMENT',
    message: /one size.* 8×9 and 8×8/,
  });
  assert.throws(() => preprocessForClip([]), { code: 'ERR_INVALID_ARGUMENT' });
});
