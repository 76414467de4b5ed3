import type { Image } from '../image.js';
import { checkKnownOptions } from '../options.js';
import type { Tensor } from '../tensor.js';
import { checkLatents, checkSize, firstNoise } from './first-noise.js';
import { type Pictures, startOptions } from './generation.js';
import { DiffusionPipeline } from './pipeline.js';
import { generate, type StableDiffusionComponents, stableDiffusion } from './stable-diffusion.js';
import {
  checkRequest,
  type StableDiffusionOptions,
  stableDiffusionOptionNames,
} from './stable-diffusion-options.js';

/** Options of text-to-image. */
export interface TextToImageOptions extends StableDiffusionOptions {
  /** Pixels, a multiple of the autoencoder's factor (8); the checkpoint's size unless both are given. */
  height?: number;
  /** Pixels; as `height`. */
  width?: number;
  /** Noise [B,C,height/8,width/8] to start from, of standard deviation 1. Not disposed. */
  latents?: Tensor;
  /** 0 (default) to 1: keeps strong guidance from washing out contrast. */
  guidanceRescale?: number;
}

const knownOptions = [
  ...stableDiffusionOptionNames,
  'height',
  'width',
  'latents',
  'guidanceRescale',
];

/** Text → picture with Stable Diffusion 1.x and 2.x checkpoints. */
export class StableDiffusionPipeline extends DiffusionPipeline<StableDiffusionComponents> {
  /** @internal */
  static readonly family = stableDiffusion;

  /**
   * Draws pictures: B prompts × numImagesPerPrompt, a prompt's pictures side by side.
   *
   * @throws InvalidArgumentError, before any network runs
   * @example const { images } = await pipe.generate({ prompt: 'a fox, 3d style', seed: 7 });
   */
  generate(
    options: TextToImageOptions & { outputType: 'tensor' | 'latent' },
  ): Promise<Pictures<Tensor>>;
  generate(options: TextToImageOptions & { outputType?: 'image' }): Promise<Pictures<Image[]>>;
  async generate(options: TextToImageOptions): Promise<Pictures> {
    checkKnownOptions(options, knownOptions, 'Text-to-image');
    const { components } = this;
    const request = checkRequest(components, options);
    const shape = [request.batch, ...this.#latentShape(options)];
    const given = checkLatents(options.latents, shape);
    request.signal?.throwIfAborted();
    using run = components.scheduler.start(startOptions(options));
    const like = { shape, dtype: this.dtype, device: this.device };
    const pictures = await generate(components, request, {
      run,
      firstLatents: async () => firstNoise(like, given, request.generator, run),
    });
    return pictures;
  }

  #latentShape(options: TextToImageOptions): number[] {
    const { vae, unet } = this.components;
    const side = unet.sampleSize * vae.scaleFactor;
    const size = checkSize(options, vae.scaleFactor, { height: side, width: side });
    // diffusers takes the default for both sides when either is missing.
    const isPartial = options.height === undefined || options.width === undefined;
    const { height, width } = isPartial ? { height: side, width: side } : size;
    return [unet.inChannels, height / vae.scaleFactor, width / vae.scaleFactor];
  }
}
