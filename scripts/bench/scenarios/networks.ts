// Single runs of the networks of a full-size Stable Diffusion 1.5: text encoder, UNet, autoencoder.
import { join } from 'node:path';

import { Generator } from '../../../lib/generator.js';
import { Network } from '../../../lib/networks/network.js';
import { TextEncoder } from '../../../lib/networks/text-encoder.js';
import { UNet } from '../../../lib/networks/unet.js';
import { randn } from '../../../lib/ops.js';
import type { Tensor } from '../../../lib/tensor.js';
import { type BenchContext, type ComparisonResult, savedOutput } from '../context.js';
import type { BenchDType } from '../measure.js';
import { type Side, timed } from '../measure.js';
import type { PeerProcess } from '../peers/process.js';
import { sdcppName, startStableDiffusionCpp } from '../peers/stable-diffusion-cpp.js';

type Part = 'unet' | 'vae' | 'text_encoder';

const classNames: Record<Part, string> = {
  unet: 'UNet2DConditionModel',
  vae: 'AutoencoderKL',
  text_encoder: 'CLIPTextModel',
};

/** One way of running one network, the same in all sides. */
interface Work {
  title: string;
  part: Part;
  /** The peer's task and what it takes. */
  task: string;
  options: Record<string, unknown>;
  /** Batch, height, width, for counting. */
  shape: [number, number, number];
  /** Makes the inputs in the network's dtype and gives what runs it. */
  prepare(network: Network): { run: () => Promise<Tensor>; dispose: () => void };
}

/** The numbers that the peers draw for the same seed. */
function normal(network: Network, seed: number, shape: readonly number[]): Tensor {
  using drawn = randn(shape, { generator: new Generator().manualSeed(seed) });
  return drawn.to({ dtype: network.dtype, device: network.device });
}

export const textEncoder = (): Work => {
  const prompt = Array.from({ length: 75 }, (_, i) => 1000 + 37 * i);
  const tokens = [[49406, ...prompt, 49407]];
  return {
    title: 'text encoder (CLIP-L), one prompt of 77 tokens',
    part: 'text_encoder',
    task: 'text_encoder',
    options: { tokens },
    shape: [1, 1, 77],
    prepare(network) {
      const encoder = new TextEncoder(network);
      return { run: () => encoder.encode(tokens), dispose: () => {} };
    },
  };
};

export const guidedStep = (side: number): Work => ({
  title: `UNet, guided step (batch 2), ${side}×${side} latents`,
  part: 'unet',
  task: 'unet',
  options: { batch: 2, height: side, width: side },
  shape: [2, side, side],
  prepare(network) {
    const unet = new UNet(network);
    const sample = normal(network, 0, [2, 4, side, side]);
    const text = normal(network, 1, [2, 77, 768]);
    return {
      run: () => unet.predict(sample, 500, text),
      dispose: () => {
        sample.dispose();
        text.dispose();
      },
    };
  },
});

export const decode = (side: number): Work => ({
  title: `VAE decode, ${side}×${side} latents`,
  part: 'vae',
  task: 'decode',
  options: { height: side, width: side },
  shape: [1, side, side],
  prepare: (network) => single(network, 'decode', 'latents', 'sample', [1, 4, side, side]),
});

export const encode = (side: number): Work => ({
  title: `VAE encode, ${side}×${side} latents`,
  part: 'vae',
  task: 'encode',
  options: { height: 8 * side, width: 8 * side },
  shape: [1, 8 * side, 8 * side],
  prepare: (network) => single(network, 'encode', 'sample', 'mean', [1, 3, 8 * side, 8 * side]),
});

function single(network: Network, entry: string, input: string, output: string, shape: number[]) {
  const tensor = normal(network, 0, shape);
  return {
    run: async () => (await network.run(entry, { [input]: tensor }, [output]))[0] as Tensor,
    dispose: () => tensor.dispose(),
  };
}

/** Undefined without a checkpoint to run. */
export async function compareNetwork(
  context: BenchContext,
  work: Work,
  more: readonly Side[] = [],
): Promise<ComparisonResult> {
  const sides: Side[] = [];
  for (const dtype of context.settings.dtypes) sides.push(await ourSide(context, work, dtype));
  for (const mode of context.modes) {
    const { name, dtype } = mode;
    const peer = await context.diffusers(mode);
    const { channelsLast, compile } = mode;
    const opened = { folder: context.settings.model, part: work.part, dtype, compile };
    await peer.ask('open', { ...opened, channels_last: channelsLast });
    sides.push({
      name,
      dtype,
      isOurs: false,
      run: () => peer.time(work.task, work.options),
      output: () => savedOutput((save) => peer.ask(work.task, { ...work.options, save })),
    });
  }
  const flop = await countFlop(context, work);
  const result = await context.compare(work.title, [...sides, ...more], { flop, check: true });
  for (const mode of context.modes) await (await context.diffusers(mode)).ask('close');
  return result;
}

async function ourSide(context: BenchContext, work: Work, dtype: BenchDType): Promise<Side> {
  const { model = '', device } = context.settings;
  const folder = join(model, work.part);
  const network = await Network.load(folder, classNames[work.part], { dtype, device });
  const { run, dispose } = work.prepare(network);
  return {
    name: `torchbrush ${dtype}`,
    dtype,
    isOurs: true,
    async run() {
      const [seconds, result] = await timed(run);
      result.dispose();
      return seconds;
    },
    async output() {
      using result = await run();
      return await result.toFloat32Array();
    },
    dispose() {
      dispose();
      network.dispose();
    },
  };
}

/** Counted by the first peer in Python, on a network without numbers. */
async function countFlop(context: BenchContext, work: Work): Promise<number | undefined> {
  const [mode] = context.modes;
  if (mode === undefined) return undefined;
  const { part, task, shape } = work;
  const peer = await context.diffusers(mode);
  const { model: folder } = context.settings;
  const { flop } = await peer.ask('flop', { folder, part, run: task, shape });
  return Number(flop);
}

/** Its guided step, where it was asked for; only of small pictures, since large ones take minutes. */
export function stableDiffusionCpp(context: BenchContext, side: number): Side[] {
  const { sdcpp, peers, model, threads, device } = context.settings;
  if (sdcpp === undefined || !peers.includes('sdcpp') || side > 32 || device !== 'cpu') return [];
  const start = () => startStableDiffusionCpp(sdcpp, threads);
  // Opened by the first run: a failure is then that side's own.
  let opened: Promise<PeerProcess> | undefined;
  const open = async () => {
    const peer = await context.peer(sdcppName, start);
    await peer.ask('open', { path: model, type: 'f16' });
    return peer;
  };
  return [
    {
      name: sdcppName,
      isOurs: false,
      dtype: 'float16',
      async run() {
        opened ??= open();
        return (await opened).time('unet', { size: 8 * side });
      },
      dispose: () => void opened?.then((peer) => peer.ask('close')).catch(() => {}),
    },
  ];
}
