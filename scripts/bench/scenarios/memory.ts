// The most memory that a process holds which draws one picture, each time a fresh process.
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';

import { loadImage } from '../../../lib/image.js';
import { configure } from '../../../lib/native.js';
import { StableDiffusionImg2ImgPipeline } from '../../../lib/pipelines/stable-diffusion-img2img.js';
import type { BenchContext, ComparisonResult } from '../context.js';
import type { BenchDType, Side } from '../measure.js';
import { startDiffusers } from '../peers/diffusers.js';
import { draw, picture } from './pipelines.js';

/** Tells a process that is started with the same command line to do the work of a side. */
const variable = 'TORCHBRUSH_BENCH_CHILD';

interface ChildWork {
  model: string;
  dtype: BenchDType;
  threads: number;
  size: number;
}

interface ChildResult {
  peakMegabytes: number;
  weightMegabytes: number;
}

const task = { prompt: 'a castle', seed: 0, steps: 4, strength: 0.5, guidance: 7.5 };

export async function compareMemory(
  context: BenchContext,
  size: number,
): Promise<ComparisonResult> {
  const { model = '', dtypes, threads, python } = context.settings;
  const weights = new Map<BenchDType, number>();
  const sides = dtypes.map((dtype): Side => {
    const run = async () => {
      const result = await inChild({ model, dtype, threads, size });
      weights.set(dtype, result.weightMegabytes);
      return result.peakMegabytes;
    };
    return { name: `torchbrush ${dtype}`, isOurs: true, dtype, run };
  });
  for (const { name, dtype, channelsLast, compile } of context.modes) {
    if (python === undefined || compile !== null || channelsLast) continue;
    const run = async () => {
      const peer = await startDiffusers(python, name, { threads, device: 'cpu' });
      await peer.ask('load', { folder: model, dtype });
      await peer.ask('img2img', { ...task, image: picture, size });
      const { megabytes } = await peer.ask('memory');
      peer.stop();
      return Number(megabytes);
    };
    sides.push({ name, isOurs: false, dtype, run });
  }
  const title = `peak resident memory of a process, img2img of ${size}×${size} pixels`;
  const result = await context.compare(title, sides, { unit: 'MB', warmups: 0, rounds: 1 });
  for (const side of result.sides.filter(({ isOurs }) => isOurs)) {
    const own = weights.get(side.dtype) ?? 0;
    result.notes.push(
      `${side.name}: weights of ${own.toFixed(0)} MB; the peak is ${(side.median / own).toFixed(2)}× that, or ${(side.median - own).toFixed(0)} MB more`,
    );
  }
  return result;
}

async function inChild(work: ChildWork): Promise<ChildResult> {
  const args = [...process.execArgv, ...process.argv.slice(1)];
  const env = { ...process.env, [variable]: JSON.stringify(work) };
  const { stdout } = await promisify(execFile)(process.execPath, args, { env });
  return JSON.parse(stdout) as ChildResult;
}

/** Does a side's work where this process was started for that; whether it was. */
export async function runAsChild(): Promise<boolean> {
  const given = process.env[variable];
  if (given === undefined) return false;
  const { model, dtype, threads, size } = JSON.parse(given) as ChildWork;
  configure({ threads });
  const image = (await loadImage(picture)).resize(size, size);
  const options = { dtype, device: 'cpu', safetyChecker: null };
  using pipe = await StableDiffusionImg2ImgPipeline.fromPretrained(model, options);
  await draw(pipe, image, task);
  const { unet, vae, textEncoder } = pipe.components;
  const bytes = [unet, vae, textEncoder].map(({ network }) => network.parameters);
  const numbers = bytes.flatMap((parameters) => [...parameters.values()]);
  const count = numbers.reduce(
    (sum, shape) => sum + shape.reduce((product, size) => product * size, 1),
    0,
  );
  const peak = /VmHWM:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
  const result: ChildResult = {
    peakMegabytes: (Number(peak) * 1024) / 1e6,
    weightMegabytes: (count * (dtype === 'float32' ? 4 : 2)) / 1e6,
  };
  console.log(JSON.stringify(result));
  return true;
}
