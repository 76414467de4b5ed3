// Pipelines of latent consistency models: how they are chosen, and what they refuse before any
// network runs. That they draw what diffusers draws is the parity tests' matter.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import {
  AutoPipelineForImage2Image,
  AutoPipelineForText2Image,
  LatentConsistencyModelImg2ImgPipeline,
  LatentConsistencyModelPipeline,
  LCMScheduler,
  memoryStats,
  StableDiffusionPipeline,
  TCDScheduler,
  UNet,
} from '../lib/index.js';
import { consistencyTimesteps } from '../lib/schedulers/consistency.js';
import { demoCopy, demoModel, testImage } from './helpers.js';
import { assertRefused, disposed, disposeTensors, zeros } from './refusal.js';

/** The embedded model's, as if it took the guidance scale. */
class ToldUNet extends UNet {
  override readonly timeCondProjDim = 16;
}

let plain: StableDiffusionPipeline;
let unet: UNet;
let draw: LatentConsistencyModelPipeline;
let redraw: LatentConsistencyModelImg2ImgPipeline;
before(async () => {
  plain = await StableDiffusionPipeline.fromPretrained(demoModel);
  unet = new ToldUNet(plain.components.unet.network);
  const scheduler = LCMScheduler.fromConfig(plain.scheduler.config);
  draw = await LatentConsistencyModelPipeline.fromPipe(plain, { unet, scheduler });
  redraw = await LatentConsistencyModelImg2ImgPipeline.fromPipe(draw);
});
after(() => {
  for (const pipe of [plain, draw, redraw]) pipe.dispose();
  disposeTensors();
  assert.deepEqual(memoryStats(), { tensors: 0, tensorBytes: 0, networks: 0 });
});

type Options = Record<string, unknown>;
const common: [Options, RegExp][] = [
  [{ prompt: undefined }, /one of prompt and promptEmbeds but received neither/],
  [{ promptEmbeds: zeros([1, 24, 8]) }, /one of prompt and promptEmbeds but received both/],
  [{ prompt: [] }, /an array of strings for prompt/],
  [{ negativePrompt: 'blurry' }, /no option negativePrompt/],
  [{ eta: 0.3 }, /no option eta/],
  [{ sigmas: [1, 0] }, /no option sigmas/],
  [{ original_inference_steps: 50 }, /It is called originalInferenceSteps here/],
  [{ originalInferenceSteps: 0 }, /at least 1 for originalInferenceSteps/],
  [{ originalInferenceSteps: 1001 }, /at most 1000 for originalInferenceSteps/],
  [{ originalInferenceSteps: 3 }, /at most 3 for numInferenceSteps but received 4/],
  [{ numInferenceSteps: 51 }, /at most 50 for numInferenceSteps but received 51/],
  [{ numInferenceSteps: 0 }, /for numInferenceSteps/],
  [{ timesteps: [259, 499] }, /descending numbers below 1000 for timesteps/],
  [{ timesteps: [1000] }, /descending numbers below 1000 for timesteps/],
  [{ guidanceScale: '8' }, /a number for guidanceScale/],
  [{ numImagesPerPrompt: 0 }, /for numImagesPerPrompt/],
  [{ seed: [1, 2] }, /one seed or 1, one per picture/],
  [{ latents: zeros([1, 4, 3, 3]) }, /\[1, 4, 16, 16\] for latents/],
  [{ clipSkip: 99 }, /for clipSkip/],
  [{ outputType: 'pil' }, /for outputType/],
  [{ onStep: 7 }, /a function for onStep/],
];

test('text-to-image with a latent consistency model refuses impossible options', async () => {
  const cases: [Options, RegExp][] = [
    ...common,
    [{ height: 60 }, /a multiple of 8 for height/],
    [{ image: testImage() }, /no option image/],
    [{ strength: 0.5 }, /no option strength/],
  ];
  for (const [options, says] of cases) {
    await assertRefused(() => draw.generate({ prompt: 'x', ...options } as never), { says });
  }
});

test('image-to-image with a latent consistency model refuses impossible options', async () => {
  const cases: [Options, RegExp][] = [
    ...common,
    [{ image: undefined }, /for image but received undefined/],
    [{ height: 64 }, /no option height/],
    [{ strength: 1.1 }, /between 0 and 1 for strength/],
    [{ strength: 0.07 }, /at least 0.08 with 4 steps for strength but received 0.07/],
    [{ strength: 0.2, timesteps: [999, 499] }, /at least 0.5 for strength/],
    [{ image: [testImage(), testImage()] }, /divides the 1 pictures/],
  ];
  for (const [options, says] of cases) {
    const all = { prompt: 'x', image: testImage(), ...options };
    await assertRefused(() => redraw.generate(all as never), { says });
  }
  await assertRefused(() => redraw.generate({ prompt: 'x', image: disposed([1, 3, 64, 64]) }), {
    says: /disposed/,
    code: 'ERR_DISPOSED',
  });
});

test('a latent consistency model runs with an LCMScheduler only', async () => {
  using other = await LatentConsistencyModelPipeline.fromPipe(draw);
  for (const scheduler of [plain.scheduler, TCDScheduler.fromConfig(plain.scheduler.config)]) {
    other.scheduler = scheduler;
    await assertRefused(() => other.generate({ prompt: 'x' }), {
      says: /an LCMScheduler for scheduler but received "\w+Scheduler".*LCMScheduler.fromConfig/,
    });
  }
});

test('a UNet that is not told the guidance scale is no latent consistency model', async () => {
  await assertRefused(() => LatentConsistencyModelPipeline.fromPipe(plain), {
    says: /the unet takes no guidance scale/,
  });
});

test('the automatic pipelines know latent consistency models', async (context) => {
  using again = await AutoPipelineForText2Image.fromPipe(redraw);
  assert.ok(again instanceof LatentConsistencyModelPipeline);
  using turned = await AutoPipelineForImage2Image.fromPipe(draw);
  assert.ok(turned instanceof LatentConsistencyModelImg2ImgPipeline);
  using back = await StableDiffusionPipeline.fromPipe(draw);
  assert.equal(back.components.unet, unet);
  const folder = demoCopy(context);
  const index = join(folder, 'model_index.json');
  for (const name of ['LatentConsistencyModelPipeline', 'LatentConsistencyModelImg2ImgPipeline']) {
    const values = JSON.parse(readFileSync(index, 'utf8'));
    writeFileSync(index, JSON.stringify({ ...values, _class_name: name }));
    using loaded = await AutoPipelineForImage2Image.fromPretrained(folder, { unet });
    assert.ok(loaded instanceof LatentConsistencyModelImg2ImgPipeline);
  }
  await assert.rejects(AutoPipelineForText2Image.fromPretrained(folder), {
    code: 'ERR_CHECKPOINT',
    message: /the unet takes no guidance scale/,
  });
});

test('the steps are spread over the share of the distillation that strength leaves', () => {
  const steps = (count: number, strength?: number, originalInferenceSteps = 50) =>
    consistencyTimesteps(
      { numTrainTimesteps: 1000, originalInferenceSteps },
      { kind: 'steps', numInferenceSteps: count },
      strength,
    );
  // What diffusers 0.42 gives.
  assert.deepEqual(steps(4), [999, 759, 499, 259]);
  assert.deepEqual(steps(4, 0.8), [799, 599, 399, 199]);
  assert.deepEqual(steps(3, 0.58), [559, 379, 199]);
  assert.deepEqual(steps(3, 1, 20), [999, 699, 349]);
  // 50 · 0.58 is 28.999… in float64: the message must not name a strength that is refused again.
  assert.throws(() => steps(29, 0.57), { message: /at least 0.5801 with 29 steps for strength/ });
  assert.equal(steps(29, 0.5801).length, 29);
});
