// What the options of generate() do, on the embedded model. That the numbers are diffusers' is the
// parity tests' matter.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import {
  configure,
  DDIMScheduler,
  EulerDiscreteScheduler,
  Generator,
  type ImageToImageOptions,
  memoryStats,
  StableDiffusionImg2ImgPipeline,
  StableDiffusionPipeline,
  type StepEvent,
  Tensor,
} from '../lib/index.js';
import { randn } from '../lib/ops.js';
import { distance, pixelsOf, sound, unetRows } from './drawing.js';
import { demoModel, testImage } from './helpers.js';

// Networks as small as this one gain nothing from threads and lose much on a busy machine.
configure({ threads: 1 });

let imageToImage: StableDiffusionImg2ImgPipeline;
let textToImage: StableDiffusionPipeline;
before(async () => {
  imageToImage = await StableDiffusionImg2ImgPipeline.fromPretrained(demoModel);
  textToImage = await StableDiffusionPipeline.fromPipe(imageToImage);
});
after(() => {
  imageToImage.dispose();
  textToImage.dispose();
  assert.deepEqual(memoryStats(), { tensors: 0, tensorBytes: 0, networks: 0 });
});

const pixels = (options: Partial<ImageToImageOptions> = {}) => pixelsOf(imageToImage, options);

/** A batch takes other routes through the kernels than a single picture: last bits differ. */
const batchTolerance = 1e-4;

test('guidance of 1 or less takes one pass a step and ignores the negative prompt', async () => {
  const without = await pixels({ guidanceScale: 1 });
  assert.deepEqual(await pixels({ guidanceScale: 1, negativePrompt: 'a house' }), without);
  assert.deepEqual(await pixels({ guidanceScale: 0 }), without);
  assert.deepEqual(await pixels({ guidanceScale: -3, negativePrompt: 'a house' }), without);
  assert.deepEqual(await unetRows(() => pixels({ guidanceScale: 1 })), [1, 1, 1]);
});

test('guidance above 1 takes two passes at once, and the negative prompt counts', async () => {
  const plain = await pixels();
  assert.deepEqual(await unetRows(() => pixels()), [2, 2, 2]);
  assert.deepEqual(await pixels({ negativePrompt: '' }), plain);
  assert.ok(distance(await pixels({ negativePrompt: 'a house' }), plain) > 0);
  assert.ok(distance(await pixels({ guidanceScale: 3 }), plain) > 0);
});

test('the number of steps is what strength leaves of the schedule', async () => {
  const count = async (strength: number, numInferenceSteps: number) => {
    const seen = new Set<number>();
    const onStep = ({ steps }: StepEvent) => void seen.add(steps);
    await imageToImage.generate({ ...sound, strength, numInferenceSteps, onStep });
    return [...seen];
  };
  assert.deepEqual(await count(0.5, 10), [5]);
  assert.deepEqual(await count(0.3, 4), [1]);
  // 50 · 0.58 is 28.999… in float64, and diffusers cuts it off.
  assert.deepEqual(await count(0.58, 50), [28]);
});

test('a seed is short for a fresh generator', async () => {
  const seeded = await pixels({ seed: 7 });
  const options = { seed: undefined, generator: new Generator().manualSeed(7) };
  assert.deepEqual(await pixels(options), seeded);
  assert.deepEqual(await pixels({ seed: 7n }), seeded);
  assert.deepEqual(await pixels({ seed: [7] }), seeded);
  // The generator goes on where it stands.
  assert.ok(distance(await pixels(options), seeded) > 0);
  assert.ok(distance(await pixels({ seed: 8 }), seeded) > 0);
  assert.ok(distance(await pixels({ seed: undefined }), await pixels({ seed: undefined })) > 0);
});

test('a list of seeds gives each picture of a batch its own', async () => {
  const size = 3 * 32 * 32;
  const batch = await pixels({ seed: [7, 8, 7], numImagesPerPrompt: 3 });
  const generator = [7, 8, 7].map((seed) => new Generator().manualSeed(seed));
  assert.deepEqual(await pixels({ seed: undefined, generator, numImagesPerPrompt: 3 }), batch);
  for (const [i, seed] of [7, 8, 7].entries()) {
    const alone = await pixels({ seed });
    assert.ok(distance(batch.slice(i * size, (i + 1) * size), alone) < batchTolerance);
  }
});

test("a prompt's pictures lie side by side, and images are gone through in turn", async () => {
  const images = [testImage(32, 32), testImage(8, 8).resize(32, 32)];
  const prompts = ['a fox', 'a house'];
  const size = 3 * 32 * 32;
  const batch = await pixels({
    prompt: prompts,
    image: images,
    numImagesPerPrompt: 2,
    seed: [1, 2, 3, 4],
  });
  for (let i = 0; i < 4; i += 1) {
    const prompt = prompts[Math.floor(i / 2)];
    const alone = await pixels({ prompt, image: images[i % 2], seed: i + 1 });
    assert.ok(
      distance(batch.slice(i * size, (i + 1) * size), alone) < batchTolerance,
      `picture ${i}`,
    );
  }
});

test('all output types show the same picture', async () => {
  const { images } = await imageToImage.generate({ ...sound, numImagesPerPrompt: 2 });
  const tensor = await imageToImage.generate({
    ...sound,
    numImagesPerPrompt: 2,
    outputType: 'tensor',
  });
  const latent = await imageToImage.generate({
    ...sound,
    numImagesPerPrompt: 2,
    outputType: 'latent',
  });
  using picture = tensor.images;
  using latents = latent.images;
  assert.deepEqual(picture.shape, [2, 3, 32, 32]);
  assert.deepEqual(latents.shape, [2, 4, 8, 8]);
  assert.equal(images.length, 2);
  const values = await picture.toFloat32Array();
  assert.ok(values.every((value) => value >= 0 && value <= 1));
  const [first] = images;
  const bytes = new Uint8ClampedArray(values.slice(0, 32 * 32)).map((_, i) =>
    Math.round((values[i] ?? 0) * 255),
  );
  const red = first?.data.filter((_, i) => i % 3 === 0);
  assert.ok(distance(Float32Array.from(red ?? []), Float32Array.from(bytes)) <= 1);
  assert.equal(latents.dtype, 'float32');
});

test('latents go on into image-to-image as they are', async () => {
  const { images } = await textToImage.generate({ ...txt(), outputType: 'latent' });
  using latents = images;
  using single = Tensor.fromArray(await latents.toFloat32Array(), latents.shape.slice(1));
  const refined = await pixels({ image: latents, strength: 0.4 });
  assert.deepEqual(await pixels({ image: single, strength: 0.4 }), refined);
  assert.deepEqual(await pixels({ image: [single], strength: 0.4 }), refined);
  assert.equal(latents.disposed, false);
});

function txt() {
  return { prompt: 'a fox', height: 32, width: 32, numInferenceSteps: 3, seed: 7 };
}

test('text-to-image starts from given latents as from its own noise', async () => {
  using latents = randn([1, 4, 8, 8], { generator: new Generator().manualSeed(7) });
  const own = await textToImage.generate(txt());
  const given = await textToImage.generate({ ...txt(), seed: 99, latents });
  assert.deepEqual(given.images[0]?.data, own.images[0]?.data);
  assert.equal(latents.disposed, false);
});

test('embeddings draw what the prompt draws that they were made of', async () => {
  const { textEncoder, tokenizer } = imageToImage.components;
  const encode = (text: string) =>
    textEncoder.encode(tokenizer.encode([text], { maxLength: 24 }).inputIds);
  using promptEmbeds = await encode(sound.prompt);
  using negativePromptEmbeds = await encode('a house');
  const expected = await pixels({ negativePrompt: 'a house' });
  const options = { prompt: undefined, promptEmbeds };
  assert.deepEqual(await pixels({ ...options, negativePromptEmbeds }), expected);
  assert.deepEqual(await pixels({ ...options, negativePrompt: 'a house' }), expected);
  assert.deepEqual(await pixels({ negativePromptEmbeds }), expected);
  assert.equal(promptEmbeds.disposed || negativePromptEmbeds.disposed, false);
});

test('skipping layers of the text encoder changes the picture, skipping none does not', async () => {
  const plain = await pixels({ clipSkip: undefined });
  assert.deepEqual(await pixels({ clipSkip: 0 }), plain);
  assert.ok(distance(await pixels({ clipSkip: 1 }), plain) > 0);
});

test("text-to-image draws the model's size unless both sides are given", async () => {
  const sizeOf = async (options: { height?: number; width?: number }) => {
    const { images } = await textToImage.generate({
      ...txt(),
      height: undefined,
      width: undefined,
      ...options,
    });
    return [images[0]?.width, images[0]?.height];
  };
  assert.deepEqual(await sizeOf({}), [64, 64]);
  assert.deepEqual(await sizeOf({ height: 32 }), [64, 64]);
  assert.deepEqual(await sizeOf({ height: 40, width: 24 }), [24, 40]);
});

test('a scheduler assigned in mid-run is for the next generation', async () => {
  const old = imageToImage.scheduler;
  const plain = await pixels();
  const onStep = () => {
    imageToImage.scheduler = EulerDiscreteScheduler.fromConfig(imageToImage.scheduler.config);
  };
  assert.deepEqual(await pixels({ onStep }), plain);
  assert.ok(distance(await pixels(), plain) > 0);
  imageToImage.scheduler = DDIMScheduler.fromConfig(imageToImage.scheduler.config);
  assert.deepEqual(await pixels(), plain);
  imageToImage.scheduler = old;
});

test('different tasks on the same networks at the same time do not disturb one another', async () => {
  const drawText = async (seed: number): Promise<Float32Array> => {
    const { images } = await textToImage.generate({ ...txt(), seed, outputType: 'tensor' });
    using picture = images;
    return await picture.toFloat32Array();
  };
  const alone = [await pixels(), await drawText(1), await drawText(2), await pixels()];
  const together = await Promise.all([pixels(), drawText(1), drawText(2), pixels()]);
  for (const [i, picture] of together.entries()) {
    assert.ok(distance(picture, alone[i] as Float32Array) < batchTolerance, `picture ${i}`);
  }
});

test('slicing the autoencoder changes no more than last bits', async () => {
  const options = { numImagesPerPrompt: 2, seed: [1, 2] };
  const whole = await pixels(options);
  imageToImage.enableVaeSlicing();
  const sliced = await pixels(options);
  imageToImage.disableVaeSlicing();
  assert.ok(distance(sliced, whole) < batchTolerance);
});
