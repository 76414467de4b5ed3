import type { Image } from '../image.js';
import { checkKnownOptions } from '../options.js';
import type { Tensor } from '../tensor.js';
import type { PipelineFamily } from './components.js';
import {
  type ControlledTextToImage,
  type ControlNetComponents,
  checkControl,
  controlledTextToImage,
  controlNetSlot,
  misfitOfControl,
  readControl,
} from './controlnet.js';
import { checkDenoisingRange, startRange } from './denoising-range.js';
import { checkLatents, firstNoise } from './first-noise.js';
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

/** What Stable Diffusion XL pipelines with ControlNets work with. */
export interface StableDiffusionXLControlNetComponents
  extends StableDiffusionXLComponents,
    ControlNetComponents {}

const stableDiffusionXLControlNet: PipelineFamily<StableDiffusionXLControlNetComponents> = {
  slots: { ...stableDiffusionXL.slots, controlnet: controlNetSlot },
  config: stableDiffusionXL.config,
  misfit: (components, config) =>
    stableDiffusionXL.misfit(components, config) ?? misfitOfControl(components),
};

/** Options of text-to-image with ControlNets and Stable Diffusion XL. */
export interface XLControlNetTextToImageOptions
  extends Omit<StableDiffusionXLOptions, 'guidanceRescale'>,
    ControlledTextToImage {}

const knownOptions = [
  ...xlOptionNames.filter((name) => name !== 'guidanceRescale'),
  ...controlledTextToImage.optionNames,
];

/** Text → picture along the lines of another picture, with Stable Diffusion XL. */
export class StableDiffusionXLControlNetPipeline extends DiffusionPipeline<StableDiffusionXLControlNetComponents> {
  /** @internal */
  static readonly family = stableDiffusionXLControlNet;

  /**
   * Draws pictures: B prompts × numImagesPerPrompt, a prompt's pictures side by side.
   *
   * @throws InvalidArgumentError, ImageError, before any network runs
   */
  generate(
    options: XLControlNetTextToImageOptions & { outputType: 'tensor' | 'latent' },
  ): Promise<Pictures<Tensor>>;
  generate(
    options: XLControlNetTextToImageOptions & { outputType?: 'image' },
  ): Promise<Pictures<Image[]>>;
  async generate(options: XLControlNetTextToImageOptions): Promise<Pictures> {
    checkKnownOptions(options, knownOptions, 'Text-to-image');
    const { components, config, dtype, device } = this;
    const { vae, unet, scheduler } = components;
    const request = checkXLRequest(components, options, config.forceZerosForEmptyPrompt === true);
    const control = checkControl(components, options, controlledTextToImage.defaultScale);
    const { denoisingEnd, image: images } = options;
    checkDenoisingRange({ denoisingEnd });
    const { run, timesteps } = startRange(scheduler, startOptions(options), { denoisingEnd });
    using _run = run;
    request.signal?.throwIfAborted();
    const source = { images, name: 'image', size: options, control, request, run };
    const { guide, height, width } = await readControl(components, source);
    using _guide = guide;
    const [rows, columns] = [height / vae.scaleFactor, width / vae.scaleFactor];
    const shape = [request.batch, unet.inChannels, rows, columns];
    const given = checkLatents(options.latents, shape);
    const pictures = await generateXL(components, request, {
      run,
      timesteps,
      firstLatents: async () => firstNoise({ shape, dtype, device }, given, request.generator, run),
      timeIds: (size) => textToImageIds(options, size),
      alternating: true,
      control: guide,
    });
    return pictures;
  }
}
