import type { Tensor } from '../tensor.js';
import type { Network } from './network.js';
import { numberOr } from './unet.js';

/** CLIP's vision model with its projection, `CLIPVisionModelWithProjection`. */
export class VisionEncoder {
  /** Shared and counted; the pipeline disposes it. */
  readonly network: Network;
  /** Side of the pictures it takes; there is no other size. */
  readonly imageSize: number;
  /** Width of the embeddings. */
  readonly projectionDim: number;

  constructor(network: Network) {
    this.network = network;
    this.imageSize = numberOr(network.config.image_size, 224);
    this.projectionDim = numberOr(network.config.projection_dim, 512);
  }

  /**
   * Embeddings [B,projectionDim] of pictures.
   *
   * @param pixels [B,3,imageSize,imageSize], normalised (`preprocessForClip`), in the network's dtype.
   */
  async encode(pixels: Tensor): Promise<Tensor> {
    const [embeddings] = await this.network.run('forward', { pixel_values: pixels }, [
      'image_embeds',
    ]);
    return embeddings as Tensor;
  }
}
