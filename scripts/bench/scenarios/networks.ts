// Single runs of the networks of a full-size Stable Diffusion 1.5: text encoder, UNet, autoencoder.
import { join } from 'node:path';

import { Network } from '../../../lib/networks/network.js';
import { TextEncoder } from '../../../lib/networks/text-encoder.js';
import { compileNetworks } from '../../../lib/pipelines/compile.js';
import type { Tensor } from '../../../lib/tensor.js';
import type { OwnMode } from '../choice.js';
import { type BenchContext, type ComparisonResult, savedOutput } from '../context.js';
import { timedOn } from '../device.js';
import type { Side } from '../measure.js';
import { normal, prepareGuidedStep } from './unet-inputs.js';

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
  prepare: (network) => prepareGuidedStep(network, side),
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

export async function compareNetwork(
  context: BenchContext,
  work: Work,
  more: readonly Side[] = [],
): Promise<ComparisonResult> {
  const sides: Side[] = [];
  for (const mode of context.own) sides.push(await ourSide(context, work, mode));
  const { model: folder, variant } = context.settings;
  for (const mode of context.modes) {
    const { dtype, compile, channelsLast } = mode;
    const opened = { folder, part: work.part, dtype, compile, variant };
    const side = context.diffusersSide(
      mode,
      (peer) => peer.ask('open', { ...opened, channels_last: channelsLast }),
      (peer) => peer.time(work.task, work.options),
    );
    const output = () =>
      savedOutput(async (save) => (await side.peer()).ask(work.task, { ...work.options, save }));
    sides.push({ ...side, output });
  }
  const flop = await countFlop(context, work);
  const result = await context.compare(work.title, [...sides, ...more], { flop, check: true });
  await context.closeDiffusers();
  return result;
}

async function ourSide(context: BenchContext, work: Work, mode: OwnMode): Promise<Side> {
  const { model = '', device, variant } = context.settings;
  const { name, dtype, isCompiled } = mode;
  const options = { dtype, device, variant };
  const network = await Network.load(join(model, work.part), classNames[work.part], options);
  if (isCompiled) await compileNetworks([network]);
  const { run, dispose } = work.prepare(network);
  return {
    name,
    dtype,
    isOurs: true,
    run: () => timedOn(device, run),
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
  const { model: folder } = context.settings;
  try {
    const peer = await context.diffusers(mode);
    const { flop } = await peer.ask('flop', { folder, part, run: task, shape });
    return Number(flop);
  } catch (error) {
    context.log(
      `  operations could not be counted: ${error instanceof Error ? error.message : error}`,
    );
    return undefined;
  }
}
