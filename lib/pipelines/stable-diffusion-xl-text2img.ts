import type { Image } from '../image.js';
import { checkKnownOptions } from '../options.js';
import type { Tensor } from '../tensor.js';
import { checkDenoisingRange, startRange } from './denoising-range.js';
import { checkLatents, checkSize, firstNoise } from './first-noise.js';
import { type Pictures, startOptions } from './generation.js';
import { DiffusionPipeline } from './pipeline.js';
import {
  generateXL,
  type StableDiffusionXLComponents,
  stableDiffusionXL,
} from './stable-diffusion-xl.js';
import {
  checkXLRequest,
  type StableDiffusionXLOptions,
  xlOptionNames,
} from './stable-diffusion-xl-options.js';
import { textToImageIds } from './stable-diffusion-xl-time-ids.js';

/** Options of text-to-image with Stable Diffusion XL. */
export interface XLTextToImageOptions extends StableDiffusionXLOptions {
  /** Pixels, a multiple of 8; the checkpoint's size (1024) unless given. */
  height?: number;
  /** Pixels; as `height`. */
  width?: number;
  /** Noise [B,C,height/8,width/8] to start from, of standard deviation 1. Not disposed. */
  latents?: Tensor;
}

const knownOptions = [...xlOptionNames, 'height', 'width', 'latents'];

/** Text → picture with Stable Diffusion XL checkpoints (https://arxiv.org/abs/2307.01952). */
export class StableDiffusionXLPipeline extends DiffusionPipeline<StableDiffusionXLComponents> {
  /** @internal */
  static readonly family = stableDiffusionXL;

  /**
   * Draws pictures: B prompts × numImagesPerPrompt, a prompt's pictures side by side.
   *
   * @throws InvalidArgumentError, before any network runs
   * @example
   * // The base model draws the first 80 % of the steps, the refiner the rest.
   * const { images: latents } = await base.generate({ prompt, denoisingEnd: 0.8, outputType: 'latent' });
   * const { images } = await refiner.generate({ prompt, image: latents, denoisingStart: 0.8 });
   */
  generate(
    options: XLTextToImageOptions & { outputType: 'tensor' | 'latent' },
  ): Promise<Pictures<Tensor>>;
  generate(options: XLTextToImageOptions & { outputType?: 'image' }): Promise<Pictures<Image[]>>;
  async generate(options: XLTextToImageOptions): Promise<Pictures> {
    checkKnownOptions(options, knownOptions, 'Text-to-image');
    const { components, dtype, device } = this;
    const { vae, unet, scheduler } = components;
    const request = checkXLRequest(
      components,
      options,
      this.config.forceZerosForEmptyPrompt === true,
    );
    checkDenoisingRange(options);
    const side = unet.sampleSize * vae.scaleFactor;
    const { height, width } = checkSize(options, vae.scaleFactor, { height: side, width: side });
    const [rows, columns] = [height / vae.scaleFactor, width / vae.scaleFactor];
    const shape = [request.batch, unet.inChannels, rows, columns];
    const given = checkLatents(options.latents, shape);
    request.signal?.throwIfAborted();
    const { denoisingEnd } = options;
    const schedule = startOptions(options, { beginIndex: 0 });
    const { run, timesteps } = startRange(scheduler, schedule, { denoisingEnd });
    using _ = run;
    const pictures = await generateXL(components, request, {
      run,
      timesteps,
      firstLatents: async () => firstNoise({ shape, dtype, device }, given, request.generator, run),
      timeIds: (size) => textToImageIds(options, size),
      alternating: true,
    });
    return pictures;
  }
}
