import type { Image } from '../image.js';
import { checkKnownOptions } from '../options.js';
import type { Tensor } from '../tensor.js';
import { firstNoise } from './first-noise.js';
import type { Pictures } from './generation.js';
import {
  checkCombinedRequest,
  combinedOptionNames,
  drawCombined,
  type KandinskyCombinedOptions,
} from './kandinsky-combined.js';
import { type KandinskyCombinedComponents, kandinskyCombined } from './kandinsky-components.js';
import { textToImageSize } from './kandinsky-size.js';
import { DiffusionPipeline } from './pipeline.js';

/**
 * Text → picture with Kandinsky 2.2: a prior makes an embedding of the text, a decoder the picture.
 * The prior's checkpoint is the one that the decoder's README.md names, or the option `prior`.
 */
export class KandinskyV22CombinedPipeline extends DiffusionPipeline<KandinskyCombinedComponents> {
  /** @internal */
  static readonly family = kandinskyCombined;

  /**
   * Draws pictures: B prompts × numImagesPerPrompt, a prompt's pictures side by side. Sizes are
   * rounded up to multiples of 64.
   *
   * @throws InvalidArgumentError, before any network runs
   */
  generate(
    options: KandinskyCombinedOptions & { outputType: 'tensor' | 'latent' },
  ): Promise<Pictures<Tensor>>;
  generate(
    options: KandinskyCombinedOptions & { outputType?: 'image' },
  ): Promise<Pictures<Image[]>>;
  async generate(options: KandinskyCombinedOptions): Promise<Pictures> {
    checkKnownOptions(options, combinedOptionNames, 'Text-to-image');
    const { components, dtype, device } = this;
    const { unet, movq } = components;
    const request = checkCombinedRequest(components, options);
    const { batch, generator } = request.decoder;
    const { height, width } = textToImageSize(options, components);
    const sides = [height / movq.scaleFactor, width / movq.scaleFactor];
    const like = { shape: [batch, unet.inChannels, ...sides], dtype, device };
    using run = components.scheduler.start(request);
    const pictures = await drawCombined(components, request, {
      run,
      timesteps: run.timesteps,
      firstLatents: async () => firstNoise(like, undefined, generator, run),
    });
    return pictures;
  }
}
