import { familyDefaults } from '../defaults.js';
import type { Image } from '../image.js';
import { checkKnownOptions, checkNumber } from '../options.js';
import type { Tensor } from '../tensor.js';
import { checkDenoisingRange, startRange } from './denoising-range.js';
import { checkLatents } from './first-noise.js';
import { type Pictures, startOptions } from './generation.js';
import { encodeInitImage, type InitImage, latentShape, readInitImage } from './init-image.js';
import { DiffusionPipeline } from './pipeline.js';
import {
  generateXL,
  type StableDiffusionXLComponents,
  stableDiffusionXLImg2Img,
} from './stable-diffusion-xl.js';
import {
  checkXLRequest,
  type StableDiffusionXLOptions,
  xlOptionNames,
} from './stable-diffusion-xl-options.js';
import { imageToImageIds } from './stable-diffusion-xl-time-ids.js';

export interface ScoreOptions {
  /** How pretty the picture should be, about 1 to 10, for refiners; 6. */
  aestheticScore?: number;
  /** The same for the negative prompt; 2.5. */
  negativeAestheticScore?: number;
}

export const scoreOptionNames = ['aestheticScore', 'negativeAestheticScore'];

/** Options of image-to-image with Stable Diffusion XL; strength is 0.3 here. */
export interface XLImageToImageOptions extends StableDiffusionXLOptions, ScoreOptions {
  /**
   * The picture to start from: a path, URL, file bytes, Image or sharp instance, or a Tensor of
   * pixels ([3,H,W] or [B,3,H,W] in 0..1) or latents (4 channels); or an array of those. Pictures are
   * scaled down to multiples of the autoencoder's factor (8), all to the first one's size.
   */
  image: InitImage | readonly InitImage[];
  /** Share of the schedule that runs, 0 to 1: how much of the picture is redrawn; 0.3. */
  strength?: number;
  /**
   * Share of the schedule, 0 to 1, that the image has been through already, as a base model with the
   * same `denoisingEnd` leaves it: no noise is added and `strength` plays no part.
   */
  denoisingStart?: number;
  /** Latents [B,C,h,w] to denoise as they are, instead of the image's with noise. Not disposed. */
  latents?: Tensor;
}

const { strength: defaultStrength } = familyDefaults.xl;
const defaultScores = { positive: 6, negative: 2.5 };

const knownOptions = [
  ...xlOptionNames,
  ...scoreOptionNames,
  'image',
  'strength',
  'denoisingStart',
  'latents',
];

/** Picture and text → picture with Stable Diffusion XL checkpoints, base and refiner. */
export class StableDiffusionXLImg2ImgPipeline extends DiffusionPipeline<StableDiffusionXLComponents> {
  /** @internal */
  static readonly family = stableDiffusionXLImg2Img;

  /**
   * Redraws pictures: B prompts × numImagesPerPrompt, a prompt's pictures side by side; the images
   * are gone through in turn.
   *
   * @throws InvalidArgumentError, ImageError, before any network runs
   */
  generate(
    options: XLImageToImageOptions & { outputType: 'tensor' | 'latent' },
  ): Promise<Pictures<Tensor>>;
  generate(options: XLImageToImageOptions & { outputType?: 'image' }): Promise<Pictures<Image[]>>;
  async generate(options: XLImageToImageOptions): Promise<Pictures> {
    checkKnownOptions(options, knownOptions, 'Image-to-image');
    const { components, config } = this;
    const strength = checkNumber(options.strength ?? defaultStrength, 'strength', {
      min: 0,
      max: 1,
    });
    const scores = checkScores(options);
    const request = checkXLRequest(components, options, config.forceZerosForEmptyPrompt === true);
    checkDenoisingRange(options);
    const schedule = startOptions(options, { strength });
    const { run, timesteps } = startRange(components.scheduler, schedule, options);
    using _ = run;
    request.signal?.throwIfAborted();
    using init = await readInitImage(options.image, components.vae, request.batch, request.signal);
    const given = checkLatents(options.latents, latentShape(init, components, request.batch));
    const addNoise = options.denoisingStart === undefined;
    const pictures = await generateXL(components, request, {
      run,
      timesteps,
      firstLatents: async () =>
        given?.to({ dtype: this.dtype, device: this.device }) ??
        (await encodeInitImage(init, components, request, run, { addNoise })),
      timeIds: (size) =>
        imageToImageIds(options, size, config.requiresAestheticsScore ? scores : undefined),
      alternating: false,
    });
    return pictures;
  }
}

/** @throws InvalidArgumentError */
export function checkScores(options: ScoreOptions): { positive: number; negative: number } {
  const { aestheticScore, negativeAestheticScore } = options;
  return {
    positive: checkNumber(aestheticScore ?? defaultScores.positive, 'aestheticScore'),
    negative: checkNumber(
      negativeAestheticScore ?? defaultScores.negative,
      'negativeAestheticScore',
    ),
  };
}
