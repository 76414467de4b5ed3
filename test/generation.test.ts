// What the options of generate() do, on the embedded model. That the numbers are diffusers' is the
// parity tests' matter.
import assert from 'node:assert/strict';
import { after, before, mock, test } from 'node:test';

import {
  AutoPipelineForImage2Image,
  AutoPipelineForText2Image,
  configure,
  DDIMScheduler,
  EulerDiscreteScheduler,
  Generator,
  type Image,
  type ImageToImageOptions,
  memoryStats,
  type StableDiffusionImg2ImgPipeline,
  type StableDiffusionPipeline,
  type StepEvent,
  Tensor,
  UNet,
} from '../lib/index.js';
import { randn } from '../lib/ops.js';
import { demoModel, testImage } from './helpers.js';

// Networks as small as this one gain nothing from threads and lose much on a busy machine.
configure({ threads: 1 });

let imageToImage: StableDiffusionImg2ImgPipeline;
let textToImage: StableDiffusionPipeline;
before(async () => {
  imageToImage = await AutoPipelineForImage2Image.fromPretrained(demoModel);
  textToImage = await AutoPipelineForText2Image.fromPipe(imageToImage);
});
after(() => {
  imageToImage.dispose();
  textToImage.dispose();
  assert.deepEqual(memoryStats(), { tensors: 0, tensorBytes: 0, networks: 0 });
});

const sound = {
  prompt: 'a fox, 3d style',
  image: testImage(32, 32),
  numInferenceSteps: 3,
  strength: 1,
  seed: 7,
};

async function pixels(options: Partial<ImageToImageOptions> = {}): Promise<Float32Array> {
  const { images } = await imageToImage.generate({ ...sound, ...options, outputType: 'tensor' });
  using picture = images;
  return await picture.toFloat32Array();
}

function distance(a: Float32Array, b: Float32Array): number {
  assert.equal(a.length, b.length);
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - (b[i] as number))), 0);
}

/** A batch takes other routes through the kernels than a single picture: last bits differ. */
const batchTolerance = 1e-4;

/** How many rows the UNet is given, pass by pass. */
async function unetRows(run: () => Promise<unknown>): Promise<number[]> {
  const rows: number[] = [];
  const predict = UNet.prototype.predict;
  const spy = mock.method(
    UNet.prototype,
    'predict',
    function (this: UNet, ...inputs: Parameters<typeof predict>) {
      rows.push(inputs[0].shape[0] as number);
      return predict.apply(this, inputs);
    },
  );
  await run();
  spy.mock.restore();
  return rows;
}

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

test('onStep is told of each step and can look at the picture as it is', async () => {
  const events: Omit<StepEvent, 'latents' | 'preview'>[] = [];
  let last: Image[] = [];
  const { images } = await imageToImage.generate({
    ...sound,
    async onStep({ step, steps, timestep, latents, preview }) {
      events.push({ step, steps, timestep });
      assert.deepEqual(latents.shape, [1, 4, 8, 8]);
      last = await preview();
      assert.deepEqual([last.length, last[0]?.width, last[0]?.height], [1, 32, 32]);
    },
  });
  assert.deepEqual(
    events.map(({ step }) => step),
    [0, 1, 2],
  );
  assert.ok(events.every(({ steps }) => steps === 3));
  // DDIM's leading timesteps with an offset of 1.
  assert.deepEqual(
    events.map(({ timestep }) => timestep),
    [667, 334, 1],
  );
  assert.deepEqual(last[0]?.data, images[0]?.data);
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

test("latents that onStep returns replace the loop's, which disposes them", async () => {
  const tensors: Tensor[] = [];
  const replace =
    (make: () => Tensor) =>
    ({ step }: StepEvent) => {
      if (step < 2) return {};
      tensors.push(make());
      return { latents: tensors.at(-1) };
    };
  const zeros = () => Tensor.fromArray(new Float32Array(4 * 8 * 8), [1, 4, 8, 8]);
  const grey = await pixels({ onStep: replace(zeros) });
  assert.ok(distance(grey, await pixels()) > 0);
  assert.deepEqual(await pixels({ seed: 8, onStep: replace(zeros) }), grey);
  // In another dtype: converted.
  const inDouble = () => Tensor.fromArray(new Float64Array(4 * 8 * 8), [1, 4, 8, 8]);
  assert.deepEqual(await pixels({ onStep: replace(inDouble) }), grey);
  assert.ok(tensors.every((tensor) => tensor.disposed));
  assert.deepEqual(await pixels({ onStep: ({ latents }) => ({ latents }) }), await pixels());
  assert.deepEqual(
    await pixels({ onStep: ({ latents }) => ({ latents: latents.alias() }) }),
    await pixels(),
  );
});

test('answers of onStep that cannot be meant end the generation', async () => {
  const small = Tensor.fromArray(new Float32Array(4), [1, 4, 1, 1]);
  const gone = Tensor.fromArray(new Float32Array(4 * 8 * 8), [1, 4, 8, 8]);
  gone.dispose();
  const stats = memoryStats();
  const cases: [unknown, RegExp, string?][] = [
    [{ latents: small }, /\[1, 4, 8, 8\] for onStep's latents .*\[1, 4, 1, 1\]/],
    [{ latents: [0] }, /for onStep's latents but received an array of 1/],
    [{ latents: gone }, /disposed/, 'ERR_DISPOSED'],
    [{ guidanceScale: 'high' }, /a number for onStep's guidanceScale but received "high"/],
    [{ guidanceScale: Number.NaN }, /for onStep's guidanceScale/],
  ];
  for (const [answer, message, code = 'ERR_INVALID_ARGUMENT'] of cases) {
    const onStep = () => answer as { interrupt: boolean };
    await assert.rejects(imageToImage.generate({ ...sound, onStep }), { code, message });
  }
  for (const answer of [
    undefined,
    null,
    7,
    'stop',
    {},
    { guidanceScale: null, latents: undefined },
  ]) {
    assert.deepEqual(
      await pixels({ onStep: () => answer as { interrupt: boolean } }),
      await pixels(),
    );
  }
  assert.deepEqual(memoryStats(), stats);
  small.dispose();
});

test('onStep can switch guidance off, and interrupt', async () => {
  const off = ({ step }: StepEvent) => (step === 0 ? { guidanceScale: 1 } : undefined);
  assert.deepEqual(await unetRows(() => pixels({ onStep: off })), [2, 1, 1]);
  const seen: Image[] = [];
  const { images } = await imageToImage.generate({
    ...sound,
    async onStep({ step, preview }) {
      seen.push(...(await preview()));
      return { interrupt: step === 1 };
    },
  });
  assert.equal(seen.length, 2);
  assert.deepEqual(images[0]?.data, seen[1]?.data);
});

test("an error in onStep is the generation's error", async () => {
  const stats = memoryStats();
  const reason = new Error('on purpose');
  await assert.rejects(
    imageToImage.generate({ ...sound, onStep: () => Promise.reject(reason) }),
    reason,
  );
  assert.deepEqual(memoryStats(), stats);
});

test('an abort in mid-run rejects with its reason before another step is drawn', async () => {
  const stats = memoryStats();
  for (const at of [0, 2]) {
    const controller = new AbortController();
    const reason = { why: 'enough' };
    let steps = 0;
    const onStep = ({ step }: StepEvent) => {
      steps += 1;
      if (step === at) controller.abort(reason);
    };
    const options = { ...sound, onStep, signal: controller.signal };
    await assert.rejects(imageToImage.generate(options), (error) => error === reason);
    assert.equal(steps, at + 1);
  }
  // From outside, while a network runs.
  const rows = await unetRows(async () => {
    const signal = AbortSignal.timeout(1);
    const long = textToImage.generate({
      prompt: 'a fox',
      height: 32,
      width: 32,
      numInferenceSteps: 500,
      signal,
    });
    await assert.rejects(long, { name: 'TimeoutError' });
  });
  assert.ok(rows.length < 500);
  assert.deepEqual(memoryStats(), stats);
});

test('a pipeline disposed in mid-run rejects and leaves nothing behind', async () => {
  const stats = memoryStats();
  const pipe = await AutoPipelineForText2Image.fromPretrained(demoModel);
  const onStep = ({ step }: StepEvent) => {
    if (step === 1) pipe.dispose();
  };
  const running = pipe.generate({ prompt: 'a fox', numInferenceSteps: 10, onStep });
  await assert.rejects(running, { code: 'ERR_DISPOSED' });
  assert.deepEqual(memoryStats(), stats);
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
  const drawText = async (seed: number) =>
    (await textToImage.generate({ ...txt(), seed })).images[0]?.data;
  const alone = [await pixels(), await drawText(1), await drawText(2)];
  const together = await Promise.all([pixels(), drawText(1), drawText(2), pixels()]);
  assert.deepEqual(together, [...alone, alone[0]]);
});

test('slicing the autoencoder changes no more than last bits', async () => {
  const options = { numImagesPerPrompt: 2, seed: [1, 2] };
  const whole = await pixels(options);
  imageToImage.enableVaeSlicing();
  const sliced = await pixels(options);
  imageToImage.disableVaeSlicing();
  assert.ok(distance(sliced, whole) < batchTolerance);
});
