import type { Image } from '../image.js';
import { checkKnownOptions, checkNumber, defaults } from '../options.js';
import type { Tensor } from '../tensor.js';
import { type Pictures, startOptions } from './generation.js';
import { encodeInitImage, type InitImage, readInitImage } from './init-image.js';
import { DiffusionPipeline } from './pipeline.js';
import { generate, type StableDiffusionComponents, stableDiffusion } from './stable-diffusion.js';
import {
  checkRequest,
  type StableDiffusionOptions,
  stableDiffusionOptionNames,
} from './stable-diffusion-options.js';

/** Options of image-to-image. */
export interface ImageToImageOptions extends StableDiffusionOptions {
  /**
   * The picture to start from: a path, URL, file bytes, Image or sharp instance, or a Tensor of
   * pixels ([3,H,W] or [B,3,H,W] in 0..1) or latents (4 channels); or an array of those. Pictures are
   * scaled down to multiples of the autoencoder's factor (8), all to the first one's size.
   */
  image: InitImage | readonly InitImage[];
  /** Share of the schedule that runs, 0 to 1: how much of the picture is redrawn; 0.8. */
  strength?: number;
}

const knownOptions = [...stableDiffusionOptionNames, 'image', 'strength'];

/**
 * Picture and text → picture with Stable Diffusion 1.x and 2.x checkpoints: the picture is encoded to
 * latents, noise is added at the step that `strength` picks, and the network removes it again
 * (SDEdit, https://arxiv.org/abs/2108.01073).
 */
export class StableDiffusionImg2ImgPipeline extends DiffusionPipeline<StableDiffusionComponents> {
  /** @internal */
  static readonly family = stableDiffusion;

  /**
   * Redraws pictures: B prompts × numImagesPerPrompt, a prompt's pictures side by side; the images
   * are gone through in turn.
   *
   * @throws InvalidArgumentError, ImageError, before any network runs
   * @example
   * const { images } = await pipe.generate({ prompt: 'a castle', image: 'house.png', strength: 0.7 });
   */
  generate(
    options: ImageToImageOptions & { outputType: 'tensor' | 'latent' },
  ): Promise<Pictures<Tensor>>;
  generate(options: ImageToImageOptions & { outputType?: 'image' }): Promise<Pictures<Image[]>>;
  async generate(options: ImageToImageOptions): Promise<Pictures> {
    checkKnownOptions(options, knownOptions, 'Image-to-image');
    const { components } = this;
    const strength = checkNumber(options.strength ?? defaults.strength, 'strength', {
      min: 0,
      max: 1,
    });
    const request = checkRequest(components, options);
    using run = components.scheduler.start(startOptions(options, { strength }));
    request.signal?.throwIfAborted();
    using init = await readInitImage(options.image, components.vae, request.batch, request.signal);
    const pictures = await generate(components, request, {
      run,
      firstLatents: () => encodeInitImage(init, components, request, run),
    });
    return pictures;
  }
}
