import type { Image } from '../image.js';
import { checkKnownOptions, checkNumber, defaults } from '../options.js';
import type { Tensor } from '../tensor.js';
import type { PipelineFamily } from './components.js';
import {
  type ControlledImageToImage,
  checkControl,
  checkInitSize,
  controlledImageToImage,
  controlNetSlot,
  misfitOfControl,
  readControl,
} from './controlnet.js';
import { checkLatents } from './first-noise.js';
import { type Pictures, startOptions } from './generation.js';
import { encodeInitImage, latentShape, readInitImage } from './init-image.js';
import { DiffusionPipeline } from './pipeline.js';
import { generateXL, stableDiffusionXLImg2Img } from './stable-diffusion-xl.js';
import type { StableDiffusionXLControlNetComponents } from './stable-diffusion-xl-controlnet.js';
import { checkScores, type ScoreOptions, scoreOptionNames } from './stable-diffusion-xl-img2img.js';
import {
  checkXLRequest,
  type StableDiffusionXLOptions,
  xlOptionNames,
} from './stable-diffusion-xl-options.js';
import { imageToImageIds } from './stable-diffusion-xl-time-ids.js';

const stableDiffusionXLControlNetImg2Img: PipelineFamily<StableDiffusionXLControlNetComponents> = {
  slots: { ...stableDiffusionXLImg2Img.slots, controlnet: controlNetSlot },
  config: stableDiffusionXLImg2Img.config,
  misfit: (components, config) =>
    stableDiffusionXLImg2Img.misfit(components, config) ?? misfitOfControl(components),
};

const without = ['timesteps', 'sigmas', 'guidanceRescale', 'denoisingEnd'] as const;

/** Options of image-to-image with ControlNets and Stable Diffusion XL. */
export interface XLControlNetImageToImageOptions
  extends Omit<StableDiffusionXLOptions, (typeof without)[number]>,
    ScoreOptions,
    ControlledImageToImage {}

const knownOptions = [
  ...xlOptionNames.filter((name) => !without.some((absent) => absent === name)),
  ...controlledImageToImage.optionNames,
  ...scoreOptionNames,
];

/** Picture and text → picture along the lines of another one, with Stable Diffusion XL. */
export class StableDiffusionXLControlNetImg2ImgPipeline extends DiffusionPipeline<StableDiffusionXLControlNetComponents> {
  /** @internal */
  static readonly family = stableDiffusionXLControlNetImg2Img;

  /**
   * Redraws pictures: B prompts × numImagesPerPrompt, a prompt's pictures side by side; the images
   * are gone through in turn.
   *
   * @throws InvalidArgumentError, ImageError, before any network runs
   */
  generate(
    options: XLControlNetImageToImageOptions & { outputType: 'tensor' | 'latent' },
  ): Promise<Pictures<Tensor>>;
  generate(
    options: XLControlNetImageToImageOptions & { outputType?: 'image' },
  ): Promise<Pictures<Image[]>>;
  async generate(options: XLControlNetImageToImageOptions): Promise<Pictures> {
    checkKnownOptions(options, knownOptions, 'Image-to-image');
    const { components, config, dtype, device } = this;
    const { vae, scheduler } = components;
    const limits = { min: 0, max: 1 };
    const strength = checkNumber(options.strength ?? defaults.strength, 'strength', limits);
    const scores = checkScores(options);
    const forceZeros = config.forceZerosForEmptyPrompt === true;
    // A distilled UNet is guided like any other here, as in diffusers.
    const request = checkXLRequest(components, options, forceZeros, { tellGuidance: false });
    const control = checkControl(components, options, controlledImageToImage.defaultScale);
    const { numInferenceSteps, height, width, controlImage: images } = options;
    using run = scheduler.start(startOptions({ numInferenceSteps }, { strength }));
    const { batch, signal } = request;
    signal?.throwIfAborted();
    using init = await readInitImage(options.image, vae, batch, signal, { height, width });
    const source = { images, name: 'controlImage', size: options, control, request, run };
    const { guide, ...size } = await readControl(components, source);
    using _ = guide;
    checkInitSize(init, size, vae);
    const given = checkLatents(options.latents, latentShape(init, components, batch));
    const pictures = await generateXL(components, request, {
      run,
      firstLatents: async () =>
        given?.to({ dtype, device }) ?? (await encodeInitImage(init, components, request, run)),
      timeIds: (pixels) =>
        imageToImageIds(options, pixels, config.requiresAestheticsScore ? scores : undefined),
      alternating: false,
      control: guide,
    });
    return pictures;
  }
}
