// Pipelines in a row: what is handed over, what is let go, and when.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import {
  type ChainStepEvent,
  chain,
  configure,
  Generator,
  type Image,
  memoryStats,
  type Pictures,
  StableDiffusionImg2ImgPipeline,
  StableDiffusionPipeline,
  type Tensor,
} from '../lib/index.js';
import { encodeInitImage, readInitImage } from '../lib/pipelines/init-image.js';
import { distance } from './drawing.js';
import { demoModel, testImage } from './helpers.js';
import { assertRefused } from './refusal.js';

configure({ threads: 1 });

let draw: StableDiffusionPipeline;
let redraw: StableDiffusionImg2ImgPipeline;
before(async () => {
  draw = await StableDiffusionPipeline.fromPretrained(demoModel);
  redraw = await StableDiffusionImg2ImgPipeline.fromPipe(draw);
});
after(() => {
  draw.dispose();
  redraw.dispose();
  assert.deepEqual(memoryStats(), { tensors: 0, tensorBytes: 0, networks: 0 });
});

const few = { prompt: 'a fox, 3d style', numInferenceSteps: 2, seed: 7 };
const small = { ...few, height: 32, width: 32 };
const latent = { outputType: 'latent' } as const;
const start = testImage(32, 32);

test('latents go into the next pipeline without a copy', async () => {
  const { images } = await draw.generate({ ...small, ...latent });
  using latents = images;
  const { components } = redraw;
  using init = await readInitImage(latents, components.vae, 1, undefined);
  using run = redraw.scheduler.start({ numInferenceSteps: 2 });
  const request = { batch: 1, generator: new Generator() };
  using clean = await encodeInitImage(init, components, request, run, { addNoise: false });
  latents.data[0] = 42;
  assert.equal(clean.data[0], 42);
});

test('a chain draws what its stages draw one by one', async () => {
  const { images } = await draw.generate({ ...small, ...latent });
  using latents = images;
  const { images: second } = await redraw.generate({ ...few, image: latents, ...latent });
  using redrawn = second;
  const third = await redraw.generate({ ...few, image: redrawn, outputType: 'tensor' });
  using expected = third.images;

  const alive: number[] = [];
  const seen: string[] = [];
  const outcome = await chain(
    [
      (image, options) => {
        assert.equal(image, undefined);
        return draw.generate({ ...small, ...latent, ...options });
      },
      (image, options) => redraw.generate({ ...few, image, ...latent, ...options }),
      (image, options) => {
        alive.push(memoryStats().tensors);
        return redraw.generate({ ...few, image, outputType: 'tensor', ...options });
      },
    ],
    {
      onStep: ({ stage, stages, step, steps }: ChainStepEvent) =>
        void seen.push(`${stage + 1}/${stages} ${step + 1}/${steps}`),
    },
  );
  const picture: Tensor = outcome.images;
  using _ = picture;
  assert.equal(distance(await picture.toFloat32Array(), await expected.toFloat32Array()), 0);
  assert.deepEqual(seen, ['1/3 1/2', '1/3 2/2', '2/3 1/1', '3/3 1/1']);
  // The three above, and one between the stages: the first stage's latents have gone by then.
  assert.deepEqual(alive, [4]);
});

test('pictures go through a chain, too, and the last stage says what comes out', async () => {
  const { images } = await chain([
    () => redraw.generate({ ...few, image: start, outputType: 'tensor' }),
    (image) => redraw.generate({ ...few, image }),
    (image) => redraw.generate({ ...few, image }),
  ]);
  const [image] = images satisfies Image[];
  assert.equal(image?.width, 32);
  assert.equal(memoryStats().tensors, 0);
});

test('nothing is left of a chain that fails or is stopped', async () => {
  const first = () => draw.generate({ ...small, ...latent });
  await assert.rejects(
    chain([first, () => Promise.reject(new Error('broken')), () => assert.fail('went on')]),
    { message: 'broken' },
  );
  assert.equal(memoryStats().tensors, 0);

  const reason = new Error('enough');
  for (const stageToStop of [0, 1]) {
    const controller = new AbortController();
    const stages: number[] = [];
    const drawing = chain(
      [
        (_, options) => draw.generate({ ...small, ...latent, ...options }),
        (image, options) => redraw.generate({ ...few, image, ...latent, ...options }),
        () => assert.fail('went on'),
      ],
      {
        signal: controller.signal,
        onStep: ({ stage }) => {
          stages.push(stage);
          if (stage === stageToStop) controller.abort(reason);
        },
      },
    );
    await assert.rejects(drawing, reason);
    assert.equal(stages.at(-1), stageToStop);
    assert.equal(memoryStats().tensors, 0);
  }
  const between = new AbortController();
  await assert.rejects(
    chain(
      [
        async () => {
          const drawn = await first();
          between.abort(reason);
          return drawn;
        },
        () => assert.fail('went on'),
      ],
      { signal: between.signal },
    ),
    reason,
  );
  assert.equal(memoryStats().tensors, 0);
});

test('a stage may hand on what it was given', async () => {
  const { images } = await chain([
    () => draw.generate({ ...small, ...latent }),
    async (image): Promise<Pictures<Tensor>> => ({ images: image as Tensor }),
  ]);
  assert.equal(images.disposed, false);
  images.dispose();
});

test('a chain refuses what it cannot run', async () => {
  const stage = () => assert.fail('ran');
  const cases: [unknown, unknown, RegExp][] = [
    [undefined, {}, /two or more functions for stages/],
    [[stage], {}, /two or more functions for stages/],
    [[stage, redraw], {}, /a function for stages\[1\]/],
    [[stage, stage], { onStep: 1 }, /a function for onStep/],
    [[stage, stage], { signal: 1 }, /an AbortSignal for signal/],
    [[stage, stage], { seed: 1 }, /no option seed/],
  ];
  for (const [stages, options, says] of cases) {
    await assertRefused(() => chain(stages as never, options as never), { says });
  }
});
