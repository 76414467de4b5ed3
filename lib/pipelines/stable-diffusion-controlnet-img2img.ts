import type { Image } from '../image.js';
import { checkKnownOptions, checkNumber, defaults } from '../options.js';
import type { Tensor } from '../tensor.js';
import {
  type ControlledImageToImage,
  checkControl,
  checkInitSize,
  controlledImageToImage,
  readControl,
} from './controlnet.js';
import { checkLatents } from './first-noise.js';
import { type Pictures, startOptions } from './generation.js';
import { encodeInitImage, latentShape, readInitImage } from './init-image.js';
import { DiffusionPipeline } from './pipeline.js';
import { generate } from './stable-diffusion.js';
import {
  type StableDiffusionControlNetComponents,
  stableDiffusionControlNet,
} from './stable-diffusion-controlnet.js';
import {
  checkRequest,
  type StableDiffusionOptions,
  stableDiffusionOptionNames,
} from './stable-diffusion-options.js';

/** Options of image-to-image with ControlNets. */
export interface ControlNetImageToImageOptions
  extends Omit<StableDiffusionOptions, 'timesteps' | 'sigmas'>,
    ControlledImageToImage {}

const knownOptions = [
  ...stableDiffusionOptionNames.filter((name) => name !== 'timesteps' && name !== 'sigmas'),
  ...controlledImageToImage.optionNames,
];

/** Picture and text → picture along the lines of another one, with Stable Diffusion 1.x and 2.x. */
export class StableDiffusionControlNetImg2ImgPipeline extends DiffusionPipeline<StableDiffusionControlNetComponents> {
  /** @internal */
  static readonly family = stableDiffusionControlNet;

  /**
   * Redraws pictures: B prompts × numImagesPerPrompt, a prompt's pictures side by side; the images
   * are gone through in turn.
   *
   * @throws InvalidArgumentError, ImageError, before any network runs
   * @example
   * const { images } = await pipe.generate({ prompt, image: 'house.png', controlImage: 'depth.png' });
   */
  generate(
    options: ControlNetImageToImageOptions & { outputType: 'tensor' | 'latent' },
  ): Promise<Pictures<Tensor>>;
  generate(
    options: ControlNetImageToImageOptions & { outputType?: 'image' },
  ): Promise<Pictures<Image[]>>;
  async generate(options: ControlNetImageToImageOptions): Promise<Pictures> {
    checkKnownOptions(options, knownOptions, 'Image-to-image');
    const { components, dtype, device } = this;
    const { vae } = components;
    const strength = checkNumber(options.strength ?? defaults.strength, 'strength', {
      min: 0,
      max: 1,
    });
    // A distilled UNet is guided like any other here, as in diffusers.
    const request = checkRequest(components, options, { tellGuidance: false });
    const control = checkControl(components, options, controlledImageToImage.defaultScale);
    const { numInferenceSteps, height, width, controlImage: images } = options;
    using run = components.scheduler.start(startOptions({ numInferenceSteps }, { strength }));
    const { batch, signal } = request;
    signal?.throwIfAborted();
    using init = await readInitImage(options.image, vae, batch, signal, { height, width });
    const source = { images, name: 'controlImage', size: options, control, request, run };
    const { guide, ...size } = await readControl(components, source);
    using _ = guide;
    checkInitSize(init, size, vae);
    const given = checkLatents(options.latents, latentShape(init, components, batch));
    const pictures = await generate(components, request, {
      run,
      firstLatents: async () =>
        given?.to({ dtype, device }) ?? (await encodeInitImage(init, components, request, run)),
      control: guide,
    });
    return pictures;
  }
}
