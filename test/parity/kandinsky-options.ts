// What Kandinsky's pipelines refuse, how they are loaded and shared, and how they stop.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  AutoPipelineForImage2Image,
  AutoPipelineForText2Image,
  KandinskyV22CombinedPipeline,
  KandinskyV22Img2ImgCombinedPipeline,
  KandinskyV22Img2ImgPipeline,
  KandinskyV22Pipeline,
  KandinskyV22PriorPipeline,
  memoryStats,
} from '../../lib/index.js';
import { assertRefused, disposeTensors, zeros } from '../refusal.js';
import { initImage } from './workspace.js';

const size = { height: 32, width: 32 };
const small = { ...size, prompt: 'a fox', numInferenceSteps: 4, priorNumInferenceSteps: 3 };

export function testKandinskyOptions({ prior, decoder }: { prior: string; decoder: string }): void {
  test('AutoPipelines load and share combined pipelines, both ways', async () => {
    const before = memoryStats();
    {
      using drawn = await AutoPipelineForText2Image.fromPretrained(decoder, { prior });
      assert.ok(drawn instanceof KandinskyV22CombinedPipeline);
      using redrawn = await AutoPipelineForImage2Image.fromPipe(drawn);
      assert.ok(redrawn instanceof KandinskyV22Img2ImgCombinedPipeline);
      assert.equal(redrawn.components.priorPrior, drawn.components.priorPrior);
      using half = await KandinskyV22Pipeline.fromPipe(redrawn);
      await assertRefused(() => AutoPipelineForText2Image.fromPipe(half), { says: /priorPrior/ });
      using first = await KandinskyV22PriorPipeline.fromPretrained(prior);
      await assertRefused(() => AutoPipelineForText2Image.fromPipe(first), {
        says: /no automatic pipeline/,
      });
      await assertRefused(() => AutoPipelineForText2Image.fromPretrained(decoder, { prior: '' }), {
        says: /a folder or a name on the hub for prior/,
      });
    }
    assert.deepEqual(memoryStats(), before);
  });

  test('impossible options are refused before any network runs', async () => {
    using combined = await KandinskyV22Img2ImgCombinedPipeline.fromPretrained(decoder);
    using half = await KandinskyV22Img2ImgPipeline.fromPipe(combined);
    using first = await KandinskyV22PriorPipeline.fromPretrained(prior);
    const sound = { ...small, image: initImage(32, 32) };
    const embeddings = { imageEmbeds: zeros([2, 24]), negativeImageEmbeds: zeros([2, 24]) };
    const cases: [(options: never) => Promise<unknown>, object, RegExp][] = [
      ...(
        [
          [{ prompt: undefined }, /for prompt/],
          [{ eta: 1 }, /no option eta/],
          [{ prior_guidance_scale: 1 }, /called priorGuidanceScale/],
          [{ priorGuidanceScale: 'x' }, /for priorGuidanceScale/],
          [{ priorNumInferenceSteps: 0 }, /for priorNumInferenceSteps/],
          [{ onPriorStep: 1 }, /for onPriorStep/],
          [{ negativePrompt: ['a', 'b'] }, /1 texts, one per prompt/],
          [{ latents: zeros([2, 24]) }, /\[1, 24\] for latents/],
          [{ seed: [1, 2] }, /one seed or 1/],
          [{ strength: 0.1 }, /at least 0\.25 for strength/],
          [{ height: 34 }, /a multiple of 4 for height.*Use 32 or 36/],
          [{ image: zeros([1, 4, 8, 8]) }, /takes no latents/],
          [{ image: 7 }, /for image/],
          [{ image: [initImage(8, 8), initImage(8, 8)] }, /divides the 1 pictures/],
        ] as [object, RegExp][]
      ).map(
        ([change, says]) =>
          [(options: never) => combined.generate(options), { ...sound, ...change }, says] as [
            (options: never) => Promise<unknown>,
            object,
            RegExp,
          ],
      ),
      [
        (options) => half.generate(options),
        { ...size, ...embeddings, image: [8, 8, 8].map((side) => initImage(side, side)) },
        /one image or 2/,
      ],
      [
        (options) => half.generate(options),
        { ...size, imageEmbeds: zeros([1, 24]), image: initImage(8, 8) },
        /negativeImageEmbeds/,
      ],
      [
        (options) => half.generate(options),
        { ...size, ...embeddings, imageEmbeds: zeros([1, 9]), image: initImage(8, 8) },
        /\[B, 24\] for imageEmbeds/,
      ],
      [
        (options) => first.interpolate(options),
        { imagesAndPrompts: ['a', 'b'], weights: [1] },
        /2 numbers, one for each/,
      ],
      [
        (options) => first.interpolate(options),
        { imagesAndPrompts: ['a', zeros([1, 3, 8, 8])], weights: [1, 1] },
        /\[1, 3, 28, 28\] for imagesAndPrompts/,
      ],
    ];
    for (const [run, options, says] of cases) {
      await assertRefused(() => run(options as never), { says });
    }
    disposeTensors();
  });

  test('steps of both halves are told, and an abort stops either', async () => {
    using pipe = await KandinskyV22CombinedPipeline.fromPretrained(decoder);
    const told: string[] = [];
    const { images } = await pipe.generate({
      ...small,
      onPriorStep: ({ step, steps, latents }) =>
        void told.push(`prior ${step} of ${steps}: ${latents.shape.join()}`),
      onStep: async ({ step, steps, preview }) => {
        const [picture] = await preview();
        told.push(`decoder ${step} of ${steps}: ${picture?.width}×${picture?.height}`);
      },
    });
    assert.equal(images.length, 1);
    assert.deepEqual(told, [
      ...[0, 1, 2].map((step) => `prior ${step} of 3: 1,24`),
      ...[0, 1, 2, 3].map((step) => `decoder ${step} of 4: 32×32`),
    ]);
    const before = memoryStats();
    for (const callback of ['onPriorStep', 'onStep']) {
      const reason = new Error('enough');
      const abort = new AbortController();
      const stop = () => abort.abort(reason);
      const drawing = pipe.generate({ ...small, signal: abort.signal, [callback]: stop });
      await assert.rejects(drawing, reason);
    }
    assert.deepEqual(memoryStats(), before);
  });
}
