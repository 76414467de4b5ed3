// The denoising loop's wall time against the device's time for its UNet steps: how long the device waits
// for the host.

import type { NativeTensor } from '../../../lib/core.js';
import { loadImage } from '../../../lib/image.js';
import { call } from '../../../lib/native.js';
import { full } from '../../../lib/ops.js';
import type { ImageToImagePipeline } from '../../../lib/pipelines/auto-classes.js';
import type { Tensor } from '../../../lib/tensor.js';
import type { BenchContext, ComparisonResult } from '../context.js';
import { finished, settled } from '../device.js';
import type { BenchDType, Side } from '../measure.js';
import { openImageToImage, picture } from './opening.js';
import { type GuidedStep, prepareGuidedStep } from './unet-inputs.js';

/** Sides of a matrix product, and how many of them keep a GPU busy while the host queues a step. */
const busySize = 8192;
const busyProducts = 40;

/**
 * Two sides for each way of running: a step of the loop, from the end of the first one to the last
 * one's, and the UNet's part alone. A GPU's part is what a step adds to work that keeps the device busy
 * until the step is queued as a whole: so the host's time is not in it.
 */
export async function compareLoopWall(
  context: BenchContext,
  side: number,
): Promise<ComparisonResult> {
  const { model = '', device } = context.settings;
  const steps = device === 'cpu' ? 3 : 30;
  const sides: Side[] = [];
  const pairs: [name: string, loop: string, unet: string][] = [];
  for (const mode of context.own) {
    const { name, dtype } = mode;
    const pipe = await openImageToImage(model, context.settings, mode);
    const { unet, vae } = pipe.components;
    if (unet === undefined) throw new Error('The checkpoint has no UNet.');
    const size = side * (vae?.scaleFactor ?? 8);
    const image = (await loadImage(picture)).resize(size, size);
    const step = prepareGuidedStep(unet.network, side);
    const loop = `${name}: a step of the loop`;
    const alone = `${name}: its UNet on the device`;
    pairs.push([name, loop, alone]);
    const draw = (onStep: OnStep): Promise<{ images: Tensor }> =>
      pipe.generate({
        prompt: 'a castle by the sea',
        image,
        seed: 0,
        numInferenceSteps: steps,
        strength: 1,
        guidanceScale: 7.5,
        outputType: 'latent',
        onStep,
      }) as Promise<{ images: Tensor }>;
    const dispose = () => {
      step.dispose();
      pipe.dispose();
    };
    sides.push({ name: loop, isOurs: true, dtype, run: () => stepOfLoop(draw) });
    const run = () => timeOnDevice(device, dtype, step);
    sides.push({ name: alone, isOurs: true, dtype, run, dispose });
  }
  const title = `denoising loop against its UNet, guided, ${side}×${side} latents, ${steps} steps`;
  const result = await context.compare(title, sides, { unit: 'ms' });
  const median = (wanted: string) => result.sides.find(({ name }) => name === wanted)?.median;
  for (const [name, loop, alone] of pairs) {
    const [whole, part] = [median(loop), median(alone)];
    if (whole === undefined || part === undefined) continue;
    result.notes.push(`${name}: the loop takes ${(whole / part).toFixed(3)}× the UNet's time`);
  }
  return result;
}

type OnStep = NonNullable<Parameters<ImageToImagePipeline['generate']>[0]['onStep']>;

/** Milliseconds from the end of the first step to the end of the last one, for each step between. */
async function stepOfLoop(draw: (onStep: OnStep) => Promise<{ images: Tensor }>): Promise<number> {
  let [began, count] = [0, 0];
  const onStep: OnStep = async ({ step, steps, latents }) => {
    if (step !== 0) return;
    await finished(latents);
    count = steps - 1;
    began = performance.now();
  };
  const { images } = await draw(onStep);
  await finished(images);
  const milliseconds = performance.now() - began;
  images.dispose();
  return milliseconds / count;
}

async function timeOnDevice(device: string, dtype: BenchDType, step: GuidedStep): Promise<number> {
  await settled(device);
  if (device === 'cpu') {
    const began = performance.now();
    (await step.run()).dispose();
    return performance.now() - began;
  }
  using matrix = full([busySize, busySize], 0, { dtype, device });
  const busy = await timeBusy(matrix);
  const { whole, queued } = await timeBusy(matrix, step);
  if (queued >= busy.whole) {
    throw new Error('the host took longer to queue a step than the device was kept busy');
  }
  return whole - busy.whole;
}

/** Milliseconds until all is queued, and until all is done. */
async function timeBusy(
  matrix: Tensor,
  step?: GuidedStep,
): Promise<Record<'queued' | 'whole', number>> {
  const multiply = call((core) => core.operator('aten::mm', ''));
  const began = performance.now();
  for (let i = 0; i < busyProducts; i += 1) {
    (multiply(matrix.native, matrix.native) as NativeTensor).dispose();
  }
  using result = (await step?.run()) ?? matrix.alias();
  const queued = performance.now() - began;
  await finished(result);
  return { queued, whole: performance.now() - began };
}
