import type { Image } from '../image.js';
import { checkKnownOptions, checkNumber, defaults } from '../options.js';
import type { Tensor } from '../tensor.js';
import { checkLatents } from './first-noise.js';
import type { Pictures } from './generation.js';
import { encodeInitImage, type InitImage, latentShape, readInitImage } from './init-image.js';
import {
  checkDistilledRequest,
  type LatentConsistencyOptions,
  latentConsistency,
  latentConsistencyOptionNames,
  startDistilled,
} from './latent-consistency.js';
import { DiffusionPipeline } from './pipeline.js';
import { generate, type StableDiffusionComponents } from './stable-diffusion.js';

/** Options of image-to-image with latent consistency models. */
export interface LatentConsistencyImageToImageOptions extends LatentConsistencyOptions {
  /** The picture to start from, as for StableDiffusionImg2ImgPipeline. */
  image: InitImage | readonly InitImage[];
  /**
   * How much of the picture is redrawn, 0 to 1; 0.8. All steps run: they are spread over this share
   * of the distillation's timesteps.
   */
  strength?: number;
}

const knownOptions = [...latentConsistencyOptionNames, 'image', 'strength'];

/** Picture and text → picture in a few steps with latent consistency models. */
export class LatentConsistencyModelImg2ImgPipeline extends DiffusionPipeline<StableDiffusionComponents> {
  /** @internal */
  static readonly family = latentConsistency;

  /**
   * Redraws pictures: B prompts × numImagesPerPrompt, a prompt's pictures side by side; the images
   * are gone through in turn.
   *
   * @throws InvalidArgumentError, ImageError, before any network runs
   * @example
   * const { images } = await pipe.generate({ prompt: 'a castle', image: 'house.png', strength: 0.7 });
   */
  generate(
    options: LatentConsistencyImageToImageOptions & { outputType: 'tensor' | 'latent' },
  ): Promise<Pictures<Tensor>>;
  generate(
    options: LatentConsistencyImageToImageOptions & { outputType?: 'image' },
  ): Promise<Pictures<Image[]>>;
  async generate(options: LatentConsistencyImageToImageOptions): Promise<Pictures> {
    checkKnownOptions(options, knownOptions, 'Image-to-image');
    const { components, dtype, device } = this;
    const { scheduler, vae } = components;
    const strength = checkNumber(options.strength ?? defaults.strength, 'strength', {
      min: 0,
      max: 1,
    });
    const request = checkDistilledRequest(components, options);
    using run = startDistilled(scheduler, options, strength);
    const { batch, signal } = request;
    signal?.throwIfAborted();
    using init = await readInitImage(options.image, vae, batch, signal);
    const given = checkLatents(options.latents, latentShape(init, components, batch));
    const pictures = await generate(components, request, {
      run,
      firstLatents: async () =>
        given?.to({ dtype, device }) ?? (await encodeInitImage(init, components, request, run)),
    });
    return pictures;
  }
}
