// The picture that image-to-image starts from: in whatever form it comes, it is the same picture.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { after, before, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import sharp from 'sharp';

import {
  AutoPipelineForImage2Image,
  configure,
  Image,
  type ImageToImagePipeline,
  type InitImage,
  Tensor,
} from '../lib/index.js';
import { demoModel, temporaryFolder, testImage } from './helpers.js';

// Networks as small as this one gain nothing from threads and lose much on a busy machine.
configure({ threads: 1 });

let pipe: ImageToImagePipeline;
before(async () => {
  pipe = await AutoPipelineForImage2Image.fromPretrained(demoModel);
});
after(() => pipe.dispose());

async function draw(image: InitImage | InitImage[]): Promise<Float32Array> {
  const { images } = await pipe.generate({
    prompt: 'a fox',
    image,
    numInferenceSteps: 3,
    strength: 0.7,
    seed: 7,
    outputType: 'tensor',
  });
  using picture = images;
  return await picture.toFloat32Array();
}

/** [3,H,W], each byte b as value(b). */
function planes(image: Image, value: (byte: number) => number): Float32Array {
  const area = image.width * image.height;
  return Float32Array.from({ length: area * 3 }, (_, i) =>
    value(image.data[(i % area) * 3 + Math.floor(i / area)] as number),
  );
}

test('paths, addresses, bytes, sharp and Image objects are read alike', async (context) => {
  const image = testImage(32, 32);
  const path = join(temporaryFolder(context), 'a fox.png');
  await image.save(path);
  const bytes = readFileSync(path);
  const expected = await draw(image);
  const forms: InitImage[] = [
    path,
    relative(process.cwd(), path),
    pathToFileURL(path),
    pathToFileURL(path).href,
    bytes,
    new Uint8Array(bytes),
    new Uint8Array(bytes).buffer,
    sharp(bytes),
    image.toSharp(),
    `data:image/png;base64,${bytes.toString('base64')}`,
    [image] as unknown as InitImage,
  ];
  for (const [i, form] of forms.entries())
    assert.deepEqual(await draw(form), expected, `form ${i}`);
});

test('tensors of 0 to 1, of −1 to 1 and of bytes are the picture that they hold', async () => {
  const image = testImage(32, 32);
  const expected = await draw(image);
  const unit = planes(image, (byte) => byte / 255);
  using single = Tensor.fromArray(unit, [3, 32, 32]);
  using batch = Tensor.fromArray(unit, [1, 3, 32, 32]);
  using double = single.to({ dtype: 'float64' });
  using bytes = Tensor.fromArray(Uint8Array.from(planes(image, (byte) => byte)), [3, 32, 32]);
  using signed = Tensor.fromArray(
    planes(image, (byte) => Math.fround(2 * Math.fround(byte / 255)) - 1),
    [3, 32, 32],
  );
  for (const form of [single, batch, [single], double, bytes, signed]) {
    assert.deepEqual(await draw(form as InitImage), expected);
  }
  assert.equal(single.disposed || batch.disposed || bytes.disposed || signed.disposed, false);
});

test('what is transparent becomes white', async () => {
  const image = testImage(32, 32);
  const alpha = Uint8Array.from({ length: 32 * 32 }, (_, i) => (i % 32 < 16 ? 0 : 255));
  const withAlpha = await image
    .toSharp()
    .joinChannel(Buffer.from(alpha), { raw: { width: 32, height: 32, channels: 1 } })
    .png()
    .toBuffer();
  const onWhite = image.data.map((value, i) => (Math.floor(i / 3) % 32 < 16 ? 255 : value));
  const expected = await draw(Image.fromRaw(onWhite, 32, 32));
  assert.deepEqual(await draw(withAlpha), expected);
  assert.deepEqual(await draw(sharp(withAlpha)), expected);
});

test('a grey picture is a picture whose channels are equal', async () => {
  const grey = Uint8Array.from({ length: 32 * 32 }, (_, i) => i % 256);
  const png = await sharp(grey, { raw: { width: 32, height: 32, channels: 1 } })
    .png()
    .toBuffer();
  const colour = Uint8Array.from(
    { length: 32 * 32 * 3 },
    (_, i) => grey[Math.floor(i / 3)] as number,
  );
  assert.deepEqual(await draw(png), await draw(Image.fromRaw(colour, 32, 32)));
});

test('sides are rounded down to what the autoencoder takes', async () => {
  const { images } = await pipe.generate({
    prompt: 'a fox',
    image: testImage(75, 42),
    numInferenceSteps: 2,
    strength: 0.5,
  });
  assert.deepEqual([images[0]?.width, images[0]?.height], [72, 40]);
});

test('all pictures of a batch get the size of the first', async () => {
  const { images } = await pipe.generate({
    prompt: ['a fox', 'a house'],
    image: [testImage(64, 48), testImage(32, 80)],
    numInferenceSteps: 2,
    strength: 0.5,
  });
  for (const image of images) assert.deepEqual([image.width, image.height], [64, 48]);
});
