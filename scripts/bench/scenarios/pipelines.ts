// Whole pipelines: loading, image-to-image end to end, requests at the same time.
import { basename, join } from 'node:path';

import { Generator } from '../../../lib/generator.js';
import { type Image, loadImage } from '../../../lib/image.js';
import { configure } from '../../../lib/native.js';
import { randn } from '../../../lib/ops.js';
import { demoModel } from '../../../lib/package-root.js';
import { StableDiffusionImg2ImgPipeline } from '../../../lib/pipelines/stable-diffusion-img2img.js';
import type { BenchContext, ComparisonResult } from '../context.js';
import type { BenchDType } from '../measure.js';
import { type Side, timed } from '../measure.js';
import type { DiffusersMode } from '../peers/diffusers.js';

export const picture = join(demoModel, 'inputs', 'house-noto-64.png');

interface Task {
  prompt: string;
  seed: number;
  steps: number;
  strength: number;
  guidance: number;
}

export function openPipeline(
  context: BenchContext,
  folder: string,
  dtype: BenchDType,
): Promise<StableDiffusionImg2ImgPipeline> {
  const { device } = context.settings;
  const options = { dtype, device, safetyChecker: null };
  return StableDiffusionImg2ImgPipeline.fromPretrained(folder, options);
}

export async function draw(
  pipe: StableDiffusionImg2ImgPipeline,
  image: Image,
  { prompt, seed, steps, strength, guidance }: Task,
): Promise<void> {
  const settings = { numInferenceSteps: steps, guidanceScale: guidance };
  await pipe.generate({ prompt, seed, image, strength, ...settings });
}

/** `fromPretrained` with the files in the page cache; imports are not counted. */
export async function compareLoading(context: BenchContext): Promise<ComparisonResult> {
  const { model = '', other, dtypes } = context.settings;
  const folders = other === undefined ? [model] : [model, other];
  const sides = folders.flatMap((folder) =>
    dtypes.map((dtype): Side => {
      const suffix = folder === model ? '' : `, ${basename(folder)}`;
      return {
        name: `torchbrush ${dtype}${suffix}`,
        isOurs: true,
        dtype,
        async run() {
          const [seconds, pipe] = await timed(() => openPipeline(context, folder, dtype));
          pipe.dispose();
          return seconds;
        },
      };
    }),
  );
  for (const mode of eagerModes(context)) {
    const peer = await context.diffusers(mode);
    const { name, dtype } = mode;
    const run = async () => {
      const seconds = await peer.time('load', { folder: model, dtype });
      await peer.ask('close');
      return seconds;
    };
    sides.push({ name, isOurs: false, dtype, run });
  }
  return await context.compare('load a pipeline, warm page cache', sides);
}

/** Loading and the first guided step, which does what loading put off. */
export async function compareFirstStep(context: BenchContext): Promise<ComparisonResult> {
  const { model = '', dtypes } = context.settings;
  const side = 32;
  const sides = dtypes.map((dtype): Side => {
    const run = async () => {
      const began = performance.now();
      using pipe = await openPipeline(context, model, dtype);
      const { unet } = pipe.components;
      const generator = new Generator().manualSeed(0);
      const { device } = context.settings;
      using sample = randn([2, 4, side, side], { generator, dtype, device });
      using text = randn([2, 77, 768], { generator, dtype, device });
      using _ = await unet.predict(sample, 500, text);
      return (performance.now() - began) / 1000;
    };
    return { name: `torchbrush ${dtype}`, isOurs: true, dtype, run };
  });
  for (const mode of eagerModes(context)) {
    const peer = await context.diffusers(mode);
    const { name, dtype } = mode;
    const run = async () => {
      const loading = await peer.time('load', { folder: model, dtype });
      const step = await peer.time('unet', { batch: 2, height: side, width: side });
      await peer.ask('close');
      return loading + step;
    };
    sides.push({ name, isOurs: false, dtype, run });
  }
  const title = `load a pipeline and take the first guided step, ${side}×${side} latents`;
  return await context.compare(title, sides);
}

const eagerModes = (context: BenchContext): DiffusersMode[] =>
  context.modes.filter(({ channelsLast, compile }) => !channelsLast && compile === null);

export async function compareImageToImage(
  context: BenchContext,
  folder: string,
  { title, size, task }: { title: string; size: number; task: Task },
): Promise<ComparisonResult> {
  const image = (await loadImage(picture)).resize(size, size);
  const sides: Side[] = [];
  for (const dtype of context.settings.dtypes) {
    const pipe = await openPipeline(context, folder, dtype);
    sides.push({
      name: `torchbrush ${dtype}`,
      isOurs: true,
      dtype,
      run: async () => (await timed(() => draw(pipe, image, task)))[0],
      dispose: () => pipe.dispose(),
    });
  }
  for (const mode of context.modes) {
    const { name, dtype, channelsLast, compile } = mode;
    const peer = await context.diffusers(mode);
    await peer.ask('load', { folder, dtype, channels_last: channelsLast, compile });
    const run = () => peer.time('img2img', { ...task, image: picture, size });
    sides.push({ name, isOurs: false, dtype, run });
  }
  const result = await context.compare(title, sides);
  for (const mode of context.modes) await (await context.diffusers(mode)).ask('close');
  return result;
}

/** Requests that differ in prompt, seed, guidance and number of steps. */
export async function compareServing(context: BenchContext): Promise<ComparisonResult> {
  const requests = 8;
  const prompts = ['castle', 'fox', 'car', 'strawberry', 'rocket', 'gift', 'cat', 'balloon'];
  const tasks = Array.from({ length: requests }, (_, i): Task => {
    const prompt = `a ${prompts[i % prompts.length]}, noto style`;
    return { prompt, seed: i, steps: 20 + (i % 3) * 5, strength: 0.8, guidance: 2 + (i % 4) };
  });
  const image = await loadImage(picture);
  const pipe = await openPipeline(context, demoModel, 'float32');
  const together = () => Promise.all(tasks.map((task) => draw(pipe, image, task)));
  const inTurn = async () => {
    for (const task of tasks) await draw(pipe, image, task);
  };
  const ways: [name: string, batching: boolean, run: () => Promise<unknown>][] = [
    ['all at once', true, together],
    ['all at once, without batching', false, together],
    ['one by one', true, inTurn],
  ];
  const sides = ways.map(([name, batching, way]): Side => {
    const run = async () => {
      configure({ batching });
      const [seconds] = await timed(way);
      configure({ batching: true });
      return seconds;
    };
    return { name: `torchbrush float32, ${name}`, isOurs: true, dtype: 'float32', run };
  });
  const mode = context.modes.find(({ dtype }) => dtype === 'float32');
  if (mode !== undefined) {
    const peer = await context.diffusers(mode);
    await peer.ask('load', { folder: demoModel, dtype: 'float32' });
    const run = async () => {
      let total = 0;
      for (const task of tasks) total += await peer.time('img2img', { ...task, image: picture });
      return total;
    };
    sides.push({ name: `${mode.name}, one by one`, isOurs: false, dtype: 'float32', run });
  }
  const result = await context.compare(`${requests} requests, demo model img2img`, sides);
  pipe.dispose();
  return result;
}
