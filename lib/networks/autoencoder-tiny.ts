import { linearCombination } from '../ops.js';
import type { Tensor } from '../tensor.js';
import { Autoencoder } from './autoencoder.js';
import type { LoadNetworkOptions } from './load-entries.js';
import { Network } from './network.js';
import { runOverlaid } from './tiling.js';
import { numberOr } from './unet.js';

/** Side of a tile in pixels. */
const tile = 512;

/**
 * A small distilled autoencoder, `AutoencoderTiny`: for previews, and as the `vae` of a pipeline
 * where speed counts for more than the last detail.
 */
export class AutoencoderTiny extends Autoencoder {
  override readonly scaleFactor: number;
  override readonly scalingFactor: number;

  constructor(network: Network) {
    super(network);
    const channels = network.config.decoder_block_out_channels;
    this.scaleFactor = 2 ** ((Array.isArray(channels) ? channels.length : 4) - 1);
    this.scalingFactor = numberOr(network.config.scaling_factor, 1);
  }

  /**
   * Loads a component folder. The network is the caller's to dispose.
   *
   * @throws CheckpointError (ERR_CHECKPOINT), ProgramNotFoundError (ERR_PROGRAM_NOT_FOUND)
   */
  static async load(folder: string, options: LoadNetworkOptions): Promise<AutoencoderTiny> {
    return new AutoencoderTiny(await Network.load(folder, 'AutoencoderTiny', options));
  }

  /** Scaled latents [B,C,H/f,W/f], in the network's dtype, of pixels [B,3,H,W] in −1..1; nothing is drawn. */
  override async encode(pixels: Tensor): Promise<Tensor> {
    using placed = this.placed(pixels);
    const encode = async (part: Tensor): Promise<Tensor> => {
      const [encoded] = await this.network.run('encode', { sample: part }, ['latents']);
      return encoded as Tensor;
    };
    const scale = 1 / this.scaleFactor;
    using latents = await this.perPicture(placed, (part) =>
      this.tiling ? runOverlaid(part, encode, tile, scale) : encode(part),
    );
    return linearCombination([this.scalingFactor], [latents]);
  }

  /** Tiles overlap less than a larger autoencoder's: what a pixel depends on is nearer. */
  protected override async decodePart(latents: Tensor): Promise<Tensor> {
    const decode = async (part: Tensor): Promise<Tensor> => {
      const [pixels] = await this.network.run('decode', { latents: part }, ['sample']);
      return pixels as Tensor;
    };
    const { scaleFactor } = this;
    if (!this.tiling) return await decode(latents);
    return await runOverlaid(latents, decode, tile / scaleFactor, scaleFactor);
  }
}
