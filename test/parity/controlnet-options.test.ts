// What the pipelines with ControlNets refuse, how they are chosen, and the folders they load from.
import assert from 'node:assert/strict';
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';

import {
  AutoPipelineForImage2Image,
  AutoPipelineForText2Image,
  ControlNetModel,
  memoryStats,
  StableDiffusionControlNetImg2ImgPipeline,
  StableDiffusionControlNetPipeline,
  StableDiffusionImg2ImgPipeline,
  StableDiffusionPipeline,
  StableDiffusionXLControlNetImg2ImgPipeline,
} from '../../lib/index.js';
import { ensurePython } from '../../scripts/python.js';
import { assertRefused, disposeTensors, zeros } from '../refusal.js';
import { say } from './suite.js';
import { exportCheckpointPrograms, initImage, makeCheckpoints, runFolder } from './workspace.js';

const python = await ensurePython({ log: say });
const { folder, remove } = await runFolder();
const checkpoints = await makeCheckpoints(python, ['two-levels:1', 'xl-base:1']);
const folders = await makeCheckpoints(python, ['control:1', 'control:2', 'control-xl:1']);
await exportCheckpointPrograms(python, Object.values(checkpoints), Object.values(folders));

const place = { dtype: 'float32', device: 'cpu' } as const;
const first = await ControlNetModel.fromPretrained(folders['control:1'], place);
const second = await ControlNetModel.fromPretrained(folders['control:2'], place);
const forXL = await ControlNetModel.fromPretrained(folders['control-xl:1'], place);
const two = checkpoints['two-levels:1'];
const redraw = await StableDiffusionControlNetImg2ImgPipeline.fromPretrained(two, {
  ...place,
  controlnet: first,
});
const pair = await StableDiffusionControlNetPipeline.fromPipe(redraw, {
  controlnet: [first, second],
});

after(async () => {
  for (const one of [pair, redraw, forXL, second, first]) one.dispose();
  disposeTensors();
  const { tensors, networks } = memoryStats();
  assert.deepEqual({ tensors, networks }, { tensors: 0, networks: 0 });
  await remove();
});

const image = initImage(24, 32);
const small = initImage(24, 16);
type Options = Record<string, unknown>;

test('image-to-image with a ControlNet refuses impossible options', async () => {
  const cases: [Options, RegExp][] = [
    [{ controlImage: undefined }, /for controlImage but received undefined/],
    [{ controlImage: [] }, /at least one image for controlImage/],
    [{ controlImage: [[image]] }, /for controlImage/],
    [{ controlImage: [image, image] }, /one picture or 1, one per prompt, for controlImage/],
    [{ controlImage: zeros([1, 4, 16, 12]) }, /pixels \(3 channels\) for controlImage/],
    [{ controlImage: small }, /image is 24×32 and controlImage 24×16 pixels/],
    [{ image: zeros([1, 4, 8, 8]) }, /image is 16×16 and controlImage 24×32 pixels/],
    [{ controlnetConditioningScale: '1' }, /a number for controlnetConditioningScale/],
    [{ controlnetConditioningScale: [1] }, /one number for controlnetConditioningScale/],
    [{ guessMode: 1 }, /true or false for guessMode/],
    [{ controlGuidanceStart: -0.1 }, /between 0 and 1.*controlGuidanceStart/],
    [{ controlGuidanceEnd: 1.1 }, /between 0 and 1.*controlGuidanceEnd/],
    [{ controlGuidanceStart: 0.5, controlGuidanceEnd: 0.5 }, /\(0.5\) to be less than/],
    [{ controlGuidanceStart: [0, 0.5] }, /one number for controlGuidanceStart/],
    [{ height: 0 }, /for height/],
    [{ height: 1e5, width: 1e6 }, /pixels for height and width/],
    [{ strength: 2 }, /for strength/],
    [{ timesteps: [5] }, /no option timesteps/],
    [{ control_image: image }, /It is called controlImage here/],
    [{ latents: zeros([1, 4, 8, 8]) }, /\[1, 4, 16, 12\] for latents/],
  ];
  for (const [options, says] of cases) {
    const all = { prompt: 'x', image, controlImage: image, numInferenceSteps: 2, ...options };
    await assertRefused(() => redraw.generate(all as never), { says });
  }
});

test('text-to-image with two ControlNets refuses impossible options', async () => {
  const cases: [Options, RegExp][] = [
    [{ image }, /an array of 2 pictures, one per ControlNet, for image/],
    [{ image: [image] }, /an array of 2 pictures/],
    [{ image: [[image, image], image] }, /an array of 2 pictures/],
    [{ image: [image, small] }, /image is 24×32 and image 24×16 pixels/],
    [{ controlnetConditioningScale: [1, 1, 1] }, /2 numbers, one per ControlNet/],
    [{ controlGuidanceStart: [0.5] }, /2 numbers, one per ControlNet/],
    [{ guidanceRescale: 0.5 }, /no option guidanceRescale/],
    [{ controlImage: image }, /no option controlImage/],
  ];
  for (const [options, says] of cases) {
    const all = { prompt: 'x', image: [image, image], numInferenceSteps: 2, ...options };
    await assertRefused(() => pair.generate(all as never), { says });
  }
});

test('ControlNets are refused that are none, or made for another kind of checkpoint', async () => {
  for (const controlnet of [[], {}, null, [first, 'x'], redraw.components.unet]) {
    const says = /a ControlNetModel or an array of them for controlnet/;
    const options = { controlnet } as never;
    await assertRefused(() => StableDiffusionControlNetPipeline.fromPretrained(two, options), {
      says,
    });
  }
  await assertRefused(
    () => StableDiffusionControlNetPipeline.fromPipe(redraw, { controlnet: forXL }),
    { says: /the unet has cross_attention_dim 32 and the controlnet 80/ },
  );
  await assertRefused(() => StableDiffusionControlNetPipeline.fromPretrained(two, place), {
    says: /has no controlnet/,
    code: 'ERR_CHECKPOINT',
  });
});

test('the automatic pipelines take a ControlNet in, keep it, and leave it out', async () => {
  using text = await AutoPipelineForText2Image.fromPretrained(two, {
    ...place,
    controlnet: first,
  });
  assert.ok(text instanceof StableDiffusionControlNetPipeline);
  using kept = await AutoPipelineForImage2Image.fromPipe(text);
  assert.ok(kept instanceof StableDiffusionControlNetImg2ImgPipeline);
  assert.equal(kept.components.controlnet, first);
  using without = await AutoPipelineForText2Image.fromPipe(kept, { controlnet: null });
  assert.ok(without instanceof StableDiffusionPipeline);
  using again = await AutoPipelineForImage2Image.fromPipe(without, { controlnet: second });
  assert.ok(again instanceof StableDiffusionControlNetImg2ImgPipeline);
  using plain = await AutoPipelineForImage2Image.fromPretrained(two, {
    ...place,
    controlnet: null,
  });
  assert.ok(plain instanceof StableDiffusionImg2ImgPipeline);
  using xl = await AutoPipelineForImage2Image.fromPretrained(checkpoints['xl-base:1'], {
    ...place,
    controlnet: forXL,
  });
  assert.ok(xl instanceof StableDiffusionXLControlNetImg2ImgPipeline);
});

test('a checkpoint with two ControlNets side by side loads as diffusers saves it', async () => {
  const saved = join(folder, 'saved');
  await mkdir(saved);
  const index = JSON.parse(await readFile(join(two, 'model_index.json'), 'utf8'));
  for (const name of ['unet', 'vae', 'text_encoder', 'tokenizer', 'scheduler']) {
    await symlink(join(two, name), join(saved, name));
  }
  await symlink(folders['control:1'], join(saved, 'controlnet'));
  await symlink(folders['control:2'], join(saved, 'controlnet_1'));
  Object.assign(index, {
    _class_name: 'StableDiffusionControlNetPipeline',
    controlnet: ['diffusers', 'MultiControlNetModel'],
  });
  await writeFile(join(saved, 'model_index.json'), JSON.stringify(index));
  using pipe = await AutoPipelineForText2Image.fromPretrained(saved, place);
  assert.ok(pipe instanceof StableDiffusionControlNetPipeline);
  const options = { prompt: 'x', image: [image, image], numInferenceSteps: 2, seed: 1 };
  const { images: theirs } = await pair.generate({ ...options, outputType: 'tensor' });
  const { images: ours } = await pipe.generate({ ...options, outputType: 'tensor' });
  using a = theirs;
  using b = ours;
  assert.deepEqual(await a.toFloat32Array(), await b.toFloat32Array());
});
