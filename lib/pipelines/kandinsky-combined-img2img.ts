import { expected } from '../errors.js';
import type { Image } from '../image.js';
import { checkKnownOptions } from '../options.js';
import { Tensor } from '../tensor.js';
import type { Pictures } from './generation.js';
import { tile } from './init-image.js';
import {
  checkCombinedRequest,
  combinedOptionNames,
  drawCombined,
  type KandinskyCombinedOptions,
} from './kandinsky-combined.js';
import { type KandinskyCombinedComponents, kandinskyCombined } from './kandinsky-components.js';
import { checkStrength, type KandinskyInitOptions, lastTimesteps } from './kandinsky-img2img.js';
import { encodeKandinskyImage, readKandinskyImage } from './kandinsky-init-image.js';
import { imageToImageSize } from './kandinsky-size.js';
import { DiffusionPipeline } from './pipeline.js';

/** Options of image-to-image with prior and decoder. */
export type KandinskyCombinedImageToImageOptions = KandinskyCombinedOptions & KandinskyInitOptions;

const knownOptions = [...combinedOptionNames, 'image', 'strength'];

/**
 * Picture and text → picture with Kandinsky 2.2: a prior makes an embedding of the text, with which
 * a decoder redraws the picture. The prior's checkpoint is the one that the decoder's README.md
 * names, or the option `prior`.
 */
export class KandinskyV22Img2ImgCombinedPipeline extends DiffusionPipeline<KandinskyCombinedComponents> {
  /** @internal */
  static readonly family = kandinskyCombined;

  /**
   * Redraws pictures: B prompts × numImagesPerPrompt, a prompt's pictures side by side; the images
   * are gone through in turn.
   *
   * @throws InvalidArgumentError, ImageError, before any network runs
   */
  generate(
    options: KandinskyCombinedImageToImageOptions & { outputType: 'tensor' | 'latent' },
  ): Promise<Pictures<Tensor>>;
  generate(
    options: KandinskyCombinedImageToImageOptions & { outputType?: 'image' },
  ): Promise<Pictures<Image[]>>;
  async generate(options: KandinskyCombinedImageToImageOptions): Promise<Pictures> {
    checkKnownOptions(options, knownOptions, 'Image-to-image');
    const { components } = this;
    const { movq } = components;
    const strength = checkStrength(options);
    const request = checkCombinedRequest(components, options);
    const { numInferenceSteps, decoder } = request;
    const size = imageToImageSize(options, components);
    using run = components.scheduler.start({ numInferenceSteps });
    const timesteps = lastTimesteps(run.timesteps, numInferenceSteps, strength);
    decoder.signal?.throwIfAborted();
    using pixels = await readKandinskyImage(options.image, movq, size, decoder.signal);
    const images = pixels.shape[0] as number;
    if (decoder.batch % images !== 0) {
      const what = `a number of images that divides the ${decoder.batch} pictures to draw`;
      throw expected(what, 'image', images, 'Pass one prompt per image.');
    }
    // In diffusers the pictures of a list have noises of their own, those of one tensor share it.
    const isList = !(options.image instanceof Tensor);
    const rows = (latents: Tensor) => (isList ? tile(latents, decoder.batch) : latents.alias());
    const pictures = await drawCombined(components, request, {
      run,
      timesteps,
      firstLatents: () =>
        encodeKandinskyImage({ pixels, rows }, movq, decoder, run, timesteps[0] as number),
    });
    return pictures;
  }
}
