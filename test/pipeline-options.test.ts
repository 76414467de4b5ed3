// What loading, sharing and disposing refuse: with the name of the option, before any network runs.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import {
  AutoPipelineForImage2Image,
  AutoPipelineForText2Image,
  configure,
  EulerDiscreteScheduler,
  type ImageToImagePipeline,
  memoryStats,
} from '../lib/index.js';
import { demoModel } from './helpers.js';
import { assertRefused } from './refusal.js';

// Networks as small as this one gain nothing from threads and lose much on a busy machine.
configure({ threads: 1 });

type Options = Record<string, unknown>;

let imageToImage: ImageToImagePipeline;
before(async () => {
  imageToImage = await AutoPipelineForImage2Image.fromPretrained(demoModel);
});
after(() => imageToImage.dispose());

test('fromPretrained refuses impossible options', async () => {
  const { textEncoder } = imageToImage.components;
  const cases: [Options | unknown, RegExp][] = [
    [null, /an object for options/],
    [{ torch_dtype: 'float16' }, /fromPretrained has no option torch_dtype/],
    [{ local_files: 1 }, /no option local_files/],
    ...['float8', 'float64', 'fp16', 7].map(
      (dtype) => [{ dtype }, /for dtype but received/] as [Options, RegExp],
    ),
    [{ dtype: 'float16', device: 'cpu' }, /'float32' or 'bfloat16' on the CPU for dtype/],
    ...['tpu', 'cuda:x', 'CPU', 7].map(
      (device) => [{ device }, /'cuda:N' for device/] as [Options, RegExp],
    ),
    [{ device: 'cuda:99' }, /for device but received "cuda:99".*doctor/],
    ...[16, '', '../x', 'a.b'].map((variant) => [{ variant }, /for variant/] as [Options, RegExp]),
    [{ onProgress: 7 }, /a function for onProgress/],
    [{ signal: {} }, /an AbortSignal for signal/],
    [{ vae: {} }, /an Autoencoder for vae but received an object/],
    [{ vae: null }, /for vae but received null/],
    [{ unet: textEncoder }, /a UNet for unet but received an instance of TextEncoder/],
    [{ tokenizer: 'clip' }, /a ClipTokenizer for tokenizer/],
    [{ scheduler: 'DDIMScheduler' }, /a scheduler for scheduler.*fromConfig/],
  ];
  for (const [options, says] of cases) {
    await assertRefused(
      () => AutoPipelineForImage2Image.fromPretrained(demoModel, options as Options),
      { says },
    );
  }
});

test('fromPipe refuses what is no pipeline and components that do not fit', async () => {
  const gone = await AutoPipelineForText2Image.fromPipe(imageToImage);
  gone.dispose();
  const reduced = await AutoPipelineForImage2Image.fromPretrained(demoModel, { dtype: 'bfloat16' });
  const { unet } = reduced.components;
  const from = (pipe: unknown, overrides?: Options) => () =>
    AutoPipelineForText2Image.fromPipe(pipe as typeof gone, overrides);
  await assertRefused(from(undefined), { says: /a pipeline for pipe but received undefined/ });
  await assertRefused(from({}), { says: /a pipeline for pipe but received an object/ });
  await assertRefused(from(gone), {
    says: /StableDiffusionPipeline has been disposed/,
    code: 'ERR_DISPOSED',
  });
  await assertRefused(from(imageToImage, { vae: 7 }), { says: /for vae but received 7/ });
  await assertRefused(from(imageToImage, { prior: 7 }), { says: /fromPipe has no option prior/ });
  await assertRefused(from(imageToImage, { unet }), { says: /fit together.*bfloat16.*float32/ });
  reduced.dispose();
  const other = await AutoPipelineForText2Image.fromPretrained(demoModel);
  const { unet: lost } = other.components;
  other.dispose();
  await assertRefused(from(imageToImage, { unet: lost }), {
    says: /disposed/,
    code: 'ERR_DISPOSED',
  });
  // The networks before it in the list were not kept.
  const counts = memoryStats();
  assert.equal(counts.networks, 4);
});

test('a disposed pipeline refuses to draw and may be disposed again', async () => {
  const gone = await AutoPipelineForText2Image.fromPipe(imageToImage);
  gone.dispose();
  gone.dispose();
  const draw = () => gone.generate({ prompt: 'a fox' });
  await assertRefused(draw, {
    says: /StableDiffusionPipeline has been disposed/,
    code: 'ERR_DISPOSED',
  });
  assert.throws(() => gone.components, { code: 'ERR_DISPOSED' });
});

test('only schedulers can be assigned as a scheduler', () => {
  for (const value of [undefined, null, 'DDIMScheduler', {}, EulerDiscreteScheduler]) {
    const assign = () => {
      imageToImage.scheduler = value as typeof imageToImage.scheduler;
    };
    assert.throws(assign, { code: 'ERR_INVALID_ARGUMENT', message: /a scheduler for scheduler/ });
  }
});
