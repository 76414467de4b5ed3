// Whole pipelines: loading, image-to-image end to end, requests at the same time.
import { basename } from 'node:path';

import { loadImage } from '../../../lib/image.js';
import { configure } from '../../../lib/native.js';
import { demoModel } from '../../../lib/package-root.js';
import type { BenchContext, ComparisonResult } from '../context.js';
import { finished, settled } from '../device.js';
import { type Side, timed } from '../measure.js';
import type { DiffusersMode } from '../peers/diffusers.js';
import type { PeerProcess } from '../peers/process.js';
import { draw, openDemo, openImageToImage, picture, type Task } from './opening.js';
import { prepareGuidedStep } from './unet-inputs.js';

/** `fromPretrained` with the files in the page cache; imports are not counted. */
export async function compareLoading(context: BenchContext): Promise<ComparisonResult> {
  const { model = '', other, dtypes, variant } = context.settings;
  const folders = other === undefined ? [model] : [model, other];
  const sides = folders.flatMap((folder) =>
    dtypes.map((dtype): Side => {
      const suffix = folder === model ? '' : `, ${basename(folder)}`;
      return {
        name: `torchbrush ${dtype}${suffix}`,
        isOurs: true,
        dtype,
        async run() {
          const began = performance.now();
          const { settings } = context;
          using _ = await openImageToImage(folder, settings, { dtype, isCompiled: false });
          await settled(settings.device);
          return (performance.now() - began) / 1000;
        },
      };
    }),
  );
  for (const mode of eagerModes(context)) {
    const load = { folder: model, dtype: mode.dtype, variant };
    const run = async (peer: PeerProcess) => {
      const seconds = await peer.time('load', load);
      await peer.ask('close');
      return seconds;
    };
    sides.push(context.diffusersSide(mode, async () => {}, run));
  }
  return await context.compare('load a pipeline, warm page cache', sides);
}

/** Loading and the first guided step, which does what loading put off. */
export async function compareFirstStep(context: BenchContext): Promise<ComparisonResult> {
  const { model = '', dtypes, variant } = context.settings;
  const side = 32;
  const sides = dtypes.map((dtype): Side => {
    const run = async () => {
      const began = performance.now();
      using pipe = await openImageToImage(model, context.settings, { dtype, isCompiled: false });
      const { unet } = pipe.components;
      if (unet === undefined) throw new Error('The checkpoint has no UNet.');
      const step = prepareGuidedStep(unet.network, side);
      using result = await step.run();
      await finished(result);
      step.dispose();
      return (performance.now() - began) / 1000;
    };
    return { name: `torchbrush ${dtype}`, isOurs: true, dtype, run };
  });
  for (const mode of eagerModes(context)) {
    const load = { folder: model, dtype: mode.dtype, variant };
    const run = async (peer: PeerProcess) => {
      const loading = await peer.time('load', load);
      const step = await peer.time('unet', { batch: 2, height: side, width: side });
      await peer.ask('close');
      return loading + step;
    };
    sides.push(context.diffusersSide(mode, async () => {}, run));
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
  const { settings, own } = context;
  const image = (await loadImage(picture)).resize(size, size);
  const sides: Side[] = [];
  for (const mode of own) {
    const pipe = await openImageToImage(folder, settings, mode);
    const { name, dtype } = mode;
    // A picture is there once the device has computed it: nothing else is waited for.
    const run = async () => (await timed(() => draw(pipe, image, task)))[0];
    sides.push({ name, isOurs: true, dtype, run, dispose: () => pipe.dispose() });
  }
  for (const mode of context.modes) {
    const { dtype, channelsLast, compile } = mode;
    const variant = folder === demoModel ? undefined : settings.variant;
    const load = { folder, dtype, variant, channels_last: channelsLast, compile };
    const side = context.diffusersSide(
      mode,
      (peer) => peer.ask('load', load),
      (peer) => peer.time('img2img', { ...task, image: picture, size }),
    );
    sides.push(side);
  }
  const result = await context.compare(title, sides);
  await context.closeDiffusers();
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
  const pipe = await openDemo(context, 'float32');
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
    const side = context.diffusersSide(
      mode,
      (peer) => peer.ask('load', { folder: demoModel, dtype: 'float32' }),
      async (peer) => {
        let total = 0;
        for (const task of tasks) {
          total += await peer.time('img2img', { ...task, image: picture });
        }
        return total;
      },
    );
    sides.push({ ...side, name: `${mode.name}, one by one` });
  }
  const result = await context.compare(`${requests} requests, demo model img2img`, sides);
  pipe.dispose();
  return result;
}
