import type { Tensor } from '../tensor.js';
import type { Network } from './network.js';
import { isLarger, quarterOverlap, runPerPicture, runTiled } from './tiling.js';
import { numberOr } from './unet.js';

/** Side of the largest picture that goes through at once where tiling is on. */
const tile = 512;

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
  /** Encodes and decodes one picture at a time, for less memory. */
  slicing = false;
  /** Encodes and decodes pictures of more than 512 pixels a side in tiles, for less memory. */
  tiling = false;

  constructor(network: Network) {
    this.network = network;
    const { block_out_channels: channels, latent_channels: width } = network.config;
    this.scaleFactor = 2 ** ((Array.isArray(channels) ? channels.length : 1) - 1);
    this.latentChannels = numberOr(network.config.vq_embed_dim, numberOr(width, 3));
  }

  /** Latents [B,C,H/f,W/f] of pixels [B,3,H,W] in −1..1; nothing is drawn. */
  async encode(pixels: Tensor): Promise<Tensor> {
    const encode = async (sample: Tensor): Promise<Tensor> => {
      const [latents] = await this.network.run('encode', { sample }, ['latents']);
      return latents as Tensor;
    };
    return await this.#inParts(pixels, encode, tile, tile / this.scaleFactor);
  }

  /** Pixels [B,3,H,W], about −1..1, of latents [B,C,h,w]. */
  async decode(latents: Tensor): Promise<Tensor> {
    const decode = async (part: Tensor): Promise<Tensor> => {
      const [pixels] = await this.network.run('decode', { latents: part }, ['sample']);
      return pixels as Tensor;
    };
    return await this.#inParts(latents, decode, tile / this.scaleFactor, tile);
  }

  /** At once, or as slicing and tiling say; `from` and `to` are the sides of a tile and its result. */
  async #inParts(
    batch: Tensor,
    run: (part: Tensor) => Promise<Tensor>,
    from: number,
    to: number,
  ): Promise<Tensor> {
    const isTiled = this.tiling && isLarger(batch, from);
    const one = (part: Tensor) =>
      isTiled ? runTiled(part, run, quarterOverlap(from, to)) : run(part);
    return await (this.slicing ? runPerPicture(batch, one) : one(batch));
  }
}
