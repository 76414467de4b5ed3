import type { Image } from '../image.js';
import { checkKnownOptions } from '../options.js';
import type { Tensor } from '../tensor.js';
import { checkLatents, checkSize, firstNoise } from './first-noise.js';
import type { Pictures } from './generation.js';
import {
  checkDistilledRequest,
  type LatentConsistencyOptions,
  latentConsistency,
  latentConsistencyOptionNames,
  startDistilled,
} from './latent-consistency.js';
import { DiffusionPipeline } from './pipeline.js';
import { generate, type StableDiffusionComponents } from './stable-diffusion.js';

/** Options of text-to-image with latent consistency models. */
export interface LatentConsistencyTextToImageOptions extends LatentConsistencyOptions {
  /** Pixels, a multiple of the autoencoder's factor (8); the checkpoint's size unless given. */
  height?: number;
  /** Pixels; as `height`. */
  width?: number;
}

const knownOptions = [...latentConsistencyOptionNames, 'height', 'width'];

/** Text → picture in a few steps with latent consistency models. Takes an LCMScheduler only. */
export class LatentConsistencyModelPipeline extends DiffusionPipeline<StableDiffusionComponents> {
  /** @internal */
  static readonly family = latentConsistency;

  /**
   * Draws pictures: B prompts × numImagesPerPrompt, a prompt's pictures side by side.
   *
   * @throws InvalidArgumentError, before any network runs
   * @example const { images } = await pipe.generate({ prompt: 'a fox, 3d style', seed: 7 });
   */
  generate(
    options: LatentConsistencyTextToImageOptions & { outputType: 'tensor' | 'latent' },
  ): Promise<Pictures<Tensor>>;
  generate(
    options: LatentConsistencyTextToImageOptions & { outputType?: 'image' },
  ): Promise<Pictures<Image[]>>;
  async generate(options: LatentConsistencyTextToImageOptions): Promise<Pictures> {
    checkKnownOptions(options, knownOptions, 'Text-to-image');
    const { components, dtype, device } = this;
    const { scheduler, unet, vae } = components;
    const request = checkDistilledRequest(components, options);
    const side = unet.sampleSize * vae.scaleFactor;
    const { height, width } = checkSize(options, vae.scaleFactor, { height: side, width: side });
    const [rows, columns] = [height / vae.scaleFactor, width / vae.scaleFactor];
    const shape = [request.batch, unet.inChannels, rows, columns];
    const given = checkLatents(options.latents, shape);
    request.signal?.throwIfAborted();
    using run = startDistilled(scheduler, options);
    const pictures = await generate(components, request, {
      run,
      firstLatents: async () => firstNoise({ shape, dtype, device }, given, request.generator, run),
    });
    return pictures;
  }
}
