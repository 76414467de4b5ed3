// The most memory that a process holds which draws one picture, each time a fresh process: resident
// memory on the CPU; on a GPU that of the device, with weights there and with weights on the host.
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';

import { loadImage } from '../../../lib/image.js';
import { configure, native } from '../../../lib/native.js';
import type { Network } from '../../../lib/networks/network.js';
import type { ImageToImagePipeline } from '../../../lib/pipelines/auto-classes.js';
import type { BenchContext, BenchSettings, ComparisonResult } from '../context.js';
import type { BenchDType, Side } from '../measure.js';
import { draw, openImageToImage, picture } from './opening.js';

/** Tells a process that is started with the same command line to do the work of a side. */
const variable = 'TORCHBRUSH_BENCH_CHILD';

const offloads = ['none', 'model', 'sequential'] as const;
type Offload = (typeof offloads)[number];

const placeNames: Record<Offload, string> = {
  none: 'resident',
  model: 'model offload',
  sequential: 'sequential offload',
};

interface ChildWork extends Pick<BenchSettings, 'device' | 'threads' | 'variant'> {
  model: string;
  dtype: BenchDType;
  size: number;
  offload: Offload;
}

interface ChildResult {
  peakMegabytes: number;
  weightMegabytes: number;
  /** What the allocator took from the device at most; only on a GPU. */
  reservedMegabytes?: number;
}

const task = { prompt: 'a castle', seed: 0, steps: 4, strength: 0.5, guidance: 7.5 };

export async function compareMemory(
  context: BenchContext,
  size: number,
): Promise<ComparisonResult> {
  const { settings } = context;
  const { model = '', dtypes, threads, device, variant } = settings;
  const isGpu = device !== 'cpu';
  const places = isGpu ? offloads : offloads.slice(0, 1);
  const named = (name: string, offload: Offload) =>
    isGpu ? `${name}, ${placeNames[offload]}` : name;
  const found = new Map<string, ChildResult>();
  const sides: Side[] = [];
  for (const dtype of dtypes) {
    for (const offload of places) {
      const name = named(`torchbrush ${dtype}`, offload);
      const run = async () => {
        const work: ChildWork = { model, dtype, threads, size, device, offload };
        const result = await inChild(variant === undefined ? work : { ...work, variant });
        found.set(name, result);
        return result.peakMegabytes;
      };
      sides.push({ name, isOurs: true, dtype, run });
    }
  }
  for (const mode of context.modes) {
    const { dtype, channelsLast, compile } = mode;
    if (compile !== null || channelsLast) continue;
    for (const offload of places) {
      const name = named(mode.name, offload);
      const run = async () => {
        const peer = await context.startDiffusers(name);
        try {
          await peer.ask('load', { folder: model, dtype, variant, offload });
          await peer.ask('img2img', { ...task, image: picture, size });
          return Number((await peer.ask('memory')).megabytes);
        } finally {
          peer.stop();
        }
      };
      sides.push({ name, isOurs: false, dtype, run });
    }
  }
  const what = isGpu
    ? "peak memory of the device's tensors in a process"
    : 'peak resident memory of a process';
  const title = `${what}, img2img of ${size}×${size} pixels`;
  const result = await context.compare(title, sides, { unit: 'MB', warmups: 0, rounds: 1 });
  for (const side of result.sides) {
    const own = found.get(side.name);
    if (own !== undefined) result.notes.push(`${side.name}: ${describe(side.median, own)}`);
  }
  return result;
}

function describe(peak: number, { weightMegabytes: own, reservedMegabytes }: ChildResult): string {
  const whole = (megabytes: number) => megabytes.toFixed(0);
  const weights = `weights of ${whole(own)} MB; the peak is ${(peak / own).toFixed(2)}× that`;
  if (reservedMegabytes !== undefined) {
    return `${weights}; the allocator took ${whole(reservedMegabytes)} MB from the device`;
  }
  return `${weights}, or ${whole(peak - own)} MB more`;
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
  const work = JSON.parse(given) as ChildWork;
  const { model, dtype, threads, size, device, variant } = work;
  configure({ threads });
  const image = (await loadImage(picture)).resize(size, size);
  const offload = work.offload === 'none' ? undefined : work.offload;
  const place = { device, offload, ...(variant !== undefined && { variant }) };
  using pipe = await openImageToImage(model, place, { dtype, isCompiled: false });
  await draw(pipe, image, task);
  const weightMegabytes = (numbersIn(pipe) * (dtype === 'float32' ? 4 : 2)) / 1e6;
  console.log(JSON.stringify({ weightMegabytes, ...peakOf(device) }));
  return true;
}

function peakOf(device: string): Omit<ChildResult, 'weightMegabytes'> {
  if (device !== 'cpu') {
    const { allocated, reserved } = native().peakMemory(device);
    return { peakMegabytes: allocated / 1e6, reservedMegabytes: reserved / 1e6 };
  }
  const peak = /VmHWM:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
  return { peakMegabytes: (Number(peak) * 1024) / 1e6 };
}

/** Of all weights of a pipeline. */
function numbersIn(pipe: ImageToImagePipeline): number {
  const { unet, vae, textEncoder, textEncoder2 } = pipe.components;
  const parts: ({ network: Network } | undefined)[] = [unet, vae, textEncoder, textEncoder2];
  const shapes = parts.flatMap((part) => [...(part?.network.parameters.values() ?? [])]);
  return shapes.reduce((sum, shape) => sum + shape.reduce((product, size) => product * size, 1), 0);
}
