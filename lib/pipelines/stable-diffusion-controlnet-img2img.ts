import type { Image } from '../image.js';
import { checkKnownOptions, checkNumber, defaults } from '../options.js';
import type { Tensor } from '../tensor.js';
import {
  type ControlImages,
  type ControlNetOptions,
  checkControl,
  checkInitSize,
  controlNetOptionNames,
  readControl,
} from './controlnet.js';
import { checkLatents } from './first-noise.js';
import { type Pictures, startOptions } from './generation.js';
import { encodeInitImage, type InitImage, latentShape, readInitImage } from './init-image.js';
import { DiffusionPipeline } from './pipeline.js';
import {
  checkRequest,
  generate,
  type StableDiffusionOptions,
  stableDiffusionOptionNames,
} from './stable-diffusion.js';
import {
  type StableDiffusionControlNetComponents,
  stableDiffusionControlNet,
} from './stable-diffusion-controlnet.js';

/** Options of image-to-image with ControlNets. */
export interface ControlNetImageToImageOptions
  extends Omit<StableDiffusionOptions, 'timesteps' | 'sigmas'>,
    ControlNetOptions {
  /** The picture to start from, as in image-to-image without ControlNets. */
  image: InitImage | readonly InitImage[];
  /** What the ControlNets follow, such as edges; of the same size as `image` unless both are resized. */
  controlImage: ControlImages;
  /** Share of the schedule that runs, 0 to 1: how much of the picture is redrawn; 0.8. */
  strength?: number;
  /** Latents [B,C,h,w] to denoise as they are, instead of the image's with noise. Not disposed. */
  latents?: Tensor;
}

const knownOptions = [
  ...stableDiffusionOptionNames.filter((name) => name !== 'timesteps' && name !== 'sigmas'),
  ...controlNetOptionNames,
  'image',
  'controlImage',
  'strength',
  'latents',
];

const defaultScale = 0.8;

/** Picture and text → picture along the lines of another one, with Stable Diffusion 1.x and 2.x. */
export class StableDiffusionControlNetImg2ImgPipeline extends DiffusionPipeline<StableDiffusionControlNetComponents> {
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
    const control = checkControl(components, options, defaultScale);
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
