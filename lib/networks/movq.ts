import type { Tensor } from '../tensor.js';
import type { Network } from './network.js';
import { numberOr } from './unet.js';

/**
 * The autoencoder of Kandinsky 2.2, `VQModel`: latents are used as the encoder gives them, neither
 * scaled nor brought to the codebook, and the decoder's norms read them a second time
 * (MoVQ, https://arxiv.org/abs/2209.09002).
 */
export class MoVQ {
  /** Shared and counted; the pipeline disposes it. */
  readonly network: Network;
  /** Pixels per latent along a side: 8 for Kandinsky. */
  readonly scaleFactor: number;
  /** Channels of latents, 4 in the published checkpoints. */
  readonly latentChannels: number;

  constructor(network: Network) {
    this.network = network;
    const { block_out_channels: channels, latent_channels: width } = network.config;
    this.scaleFactor = 2 ** ((Array.isArray(channels) ? channels.length : 1) - 1);
    this.latentChannels = numberOr(network.config.vq_embed_dim, numberOr(width, 3));
  }

  /** Latents [B,C,H/f,W/f] of pixels [B,3,H,W] in −1..1; nothing is drawn. */
  async encode(pixels: Tensor): Promise<Tensor> {
    const [latents] = await this.network.run('encode', { sample: pixels }, ['latents']);
    return latents as Tensor;
  }

  /** Pixels [B,3,H,W], about −1..1, of latents [B,C,h,w]. */
  async decode(latents: Tensor): Promise<Tensor> {
    const [pixels] = await this.network.run('decode', { latents }, ['sample']);
    return pixels as Tensor;
  }
}
