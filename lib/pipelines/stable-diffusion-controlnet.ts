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
import { checkLatents, firstNoise } from './first-noise.js';
import { type Pictures, startOptions } from './generation.js';
import { DiffusionPipeline } from './pipeline.js';
import { generate, type StableDiffusionComponents, stableDiffusion } from './stable-diffusion.js';
import {
  checkRequest,
  type StableDiffusionOptions,
  stableDiffusionOptionNames,
} from './stable-diffusion-options.js';

/** What Stable Diffusion pipelines with ControlNets work with. */
export interface StableDiffusionControlNetComponents
  extends StableDiffusionComponents,
    ControlNetComponents {}

/** Takes the scheduler as it is: diffusers mends old configs only in the classes without ControlNet. */
export const stableDiffusionControlNet: PipelineFamily<StableDiffusionControlNetComponents> = {
  slots: { ...stableDiffusion.slots, controlnet: controlNetSlot },
  config: stableDiffusion.config,
  misfit: (components) =>
    stableDiffusion.misfit(components, stableDiffusion.config) ?? misfitOfControl(components),
};

/** Options of text-to-image with ControlNets. */
export interface ControlNetTextToImageOptions
  extends StableDiffusionOptions,
    ControlledTextToImage {}

const knownOptions = [...stableDiffusionOptionNames, ...controlledTextToImage.optionNames];

/** Text → picture along the lines of another picture, with Stable Diffusion 1.x and 2.x. */
export class StableDiffusionControlNetPipeline extends DiffusionPipeline<StableDiffusionControlNetComponents> {
  /** @internal */
  static readonly family = stableDiffusionControlNet;

  /**
   * Draws pictures: B prompts × numImagesPerPrompt, a prompt's pictures side by side.
   *
   * @throws InvalidArgumentError, ImageError, before any network runs
   * @example
   * using controlnet = await ControlNetModel.fromPretrained('models/control-canny');
   * const pipe = await StableDiffusionControlNetPipeline.fromPretrained('models/sd15', { controlnet });
   * const { images } = await pipe.generate({ prompt: 'a castle', image: 'edges.png' });
   */
  generate(
    options: ControlNetTextToImageOptions & { outputType: 'tensor' | 'latent' },
  ): Promise<Pictures<Tensor>>;
  generate(
    options: ControlNetTextToImageOptions & { outputType?: 'image' },
  ): Promise<Pictures<Image[]>>;
  async generate(options: ControlNetTextToImageOptions): Promise<Pictures> {
    checkKnownOptions(options, knownOptions, 'Text-to-image');
    const { components, dtype, device } = this;
    const { vae, unet } = components;
    const request = checkRequest(components, options);
    const control = checkControl(components, options, controlledTextToImage.defaultScale);
    using run = components.scheduler.start(startOptions(options));
    request.signal?.throwIfAborted();
    const { image: images } = options;
    const source = { images, name: 'image', size: options, control, request, run };
    const { guide, height, width } = await readControl(components, source);
    using _ = guide;
    const [rows, columns] = [height / vae.scaleFactor, width / vae.scaleFactor];
    const shape = [request.batch, unet.inChannels, rows, columns];
    const given = checkLatents(options.latents, shape);
    const pictures = await generate(components, request, {
      run,
      firstLatents: async () => firstNoise({ shape, dtype, device }, given, request.generator, run),
      control: guide,
    });
    return pictures;
  }
}
