// What happens between two steps: onStep and its answers, aborts, a pipeline that is disposed.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import {
  configure,
  type Image,
  type ImageToImageOptions,
  memoryStats,
  StableDiffusionImg2ImgPipeline,
  StableDiffusionPipeline,
  type StepEvent,
  Tensor,
} from '../lib/index.js';
import { distance, pixelsOf, sound, unetRows } from './drawing.js';
import { demoModel } from './helpers.js';

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
  const pipe = await StableDiffusionPipeline.fromPretrained(demoModel);
  const onStep = ({ step }: StepEvent) => {
    if (step === 1) pipe.dispose();
  };
  const running = pipe.generate({ prompt: 'a fox', numInferenceSteps: 10, onStep });
  await assert.rejects(running, { code: 'ERR_DISPOSED' });
  assert.deepEqual(memoryStats(), stats);
});
