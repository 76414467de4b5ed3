import { expected } from '../errors.js';
import type { Image } from '../image.js';
import { defaultPixelLimit } from '../images/image.js';
import { noiseLike } from '../networks/autoencoder.js';
import { linearCombination } from '../ops.js';
import { checkInteger, checkKnownOptions, checkTensor } from '../options.js';
import type { Tensor } from '../tensor.js';
import type { ComponentOverrides } from './components.js';
import {
  componentsFromPipe,
  componentsFromPretrained,
  DiffusionPipeline,
  type FromPretrainedOptions,
} from './pipeline.js';
import {
  checkRequest,
  generate,
  type StableDiffusionOptions,
  stableDiffusionOptionNames,
  startOptions,
} from './stable-diffusion.js';

/** Options of text-to-image. */
export interface TextToImageOptions extends StableDiffusionOptions {
  /** Pixels, a multiple of the autoencoder's factor (8); the checkpoint's size unless both are given. */
  height?: number;
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
export class StableDiffusionPipeline extends DiffusionPipeline {
  static async fromPretrained(
    path: string,
    options: FromPretrainedOptions = {},
  ): Promise<StableDiffusionPipeline> {
    return new StableDiffusionPipeline(await componentsFromPretrained(path, options));
  }

  /** A pipeline on another one's components. Each is disposed on its own. */
  static async fromPipe(
    pipe: DiffusionPipeline,
    overrides: ComponentOverrides = {},
  ): Promise<StableDiffusionPipeline> {
    return new StableDiffusionPipeline(await componentsFromPipe(pipe, overrides));
  }

  /**
   * Draws pictures: B prompts × numImagesPerPrompt, a prompt's pictures side by side.
   *
   * @throws InvalidArgumentError, before any network runs
   * @example const { images } = await pipe.generate({ prompt: 'a fox, 3d style', seed: 7 });
   */
  generate(
    options: TextToImageOptions & { outputType: 'tensor' | 'latent' },
  ): Promise<{ images: Tensor }>;
  generate(options: TextToImageOptions & { outputType?: 'image' }): Promise<{ images: Image[] }>;
  async generate(options: TextToImageOptions): Promise<{ images: Image[] | Tensor }> {
    checkKnownOptions(options, knownOptions, 'Text-to-image');
    const { components } = this;
    const { vae, unet, scheduler } = components;
    const request = checkRequest(components, options);
    const { height, width } = this.#size(options);
    const shape = [
      request.batch,
      unet.inChannels,
      height / vae.scaleFactor,
      width / vae.scaleFactor,
    ];
    if (options.latents !== undefined) {
      checkTensor(options.latents, 'latents', 4);
      if (options.latents.shape.join() !== shape.join()) {
        throw expected(`[${shape.join(', ')}]`, 'latents', `[${options.latents.shape.join(', ')}]`);
      }
    }
    request.signal?.throwIfAborted();
    using run = scheduler.start(startOptions(options));
    const { dtype, device } = this;
    const images = await generate(components, request, run, async () => {
      using noise =
        options.latents?.to({ dtype, device }) ??
        noiseLike({ shape, dtype, device }, request.generator);
      return linearCombination([run.initNoiseSigma], [noise]);
    });
    return { images };
  }

  #size(options: TextToImageOptions): { height: number; width: number } {
    const { vae, unet } = this.components;
    const side = unet.sampleSize * vae.scaleFactor;
    const { height, width } = options;
    // diffusers takes the default for both sides when either is missing.
    if (height === undefined || width === undefined) {
      if (height !== undefined) checkSide(height, 'height', vae.scaleFactor);
      if (width !== undefined) checkSide(width, 'width', vae.scaleFactor);
      return { height: side, width: side };
    }
    const rows = checkSide(height, 'height', vae.scaleFactor);
    const columns = checkSide(width, 'width', vae.scaleFactor);
    if (rows * columns > defaultPixelLimit) {
      throw expected(`at most ${defaultPixelLimit} pixels`, 'height and width', rows * columns);
    }
    return { height: rows, width: columns };
  }
}

function checkSide(value: unknown, name: string, factor: number): number {
  // Stable Diffusion's factor is 8, and diffusers asks for multiples of 8 whatever the autoencoder.
  const multiple = Math.max(8, factor);
  const side = checkInteger(value, name, multiple);
  if (side % multiple === 0) return side;
  const lower = side - (side % multiple);
  throw expected(`a multiple of ${multiple}`, name, side, `Use ${lower} or ${lower + multiple}.`);
}
