// stable-diffusion.cpp beside torchbrush: a guided step of its UNet.
import type { BenchContext } from '../context.js';
import type { Side } from '../measure.js';
import type { PeerProcess } from '../peers/process.js';
import { sdcppName, startStableDiffusionCpp } from '../peers/stable-diffusion-cpp.js';

/** Sides of larger latents take half a minute and more for each step. */
const largest = 32;

export const sdcppNote =
  'stable-diffusion.cpp: the time between its second and third report of progress in a text-to-image run with guidance, two passes of the UNet at batch 1 and the scheduler; its text encoder and autoencoder do not count';

/** Its guided step, where it was asked for and latents are small. */
export function stableDiffusionCpp(context: BenchContext, side: number): Side[] {
  const { sdcpp, peers, model, threads, peerLimit } = context.settings;
  if (sdcpp === undefined || !peers.includes('sdcpp')) return [];
  if (side > largest) {
    context.log(`sdcpp is left out at ${side}×${side} latents: it is measured up to ${largest}`);
    return [];
  }
  const start = () => startStableDiffusionCpp(sdcpp, threads, peerLimit);
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
