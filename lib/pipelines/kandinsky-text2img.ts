import type { Image } from '../image.js';
import { checkKnownOptions } from '../options.js';
import type { Tensor } from '../tensor.js';
import { checkLatents, firstNoise } from './first-noise.js';
import { checkGeneration, checkGuidanceScale, type Pictures } from './generation.js';
import { type KandinskyDecoderComponents, kandinskyDecoder } from './kandinsky-components.js';
import {
  checkEmbeddings,
  decoderDefaults,
  decoderOptionNames,
  drawFromEmbeddings,
  type KandinskyDecoderOptions,
  rowsOf,
} from './kandinsky-decoder.js';
import { textToImageSize } from './kandinsky-size.js';
import { DiffusionPipeline } from './pipeline.js';

/** Options of the decoder's text-to-image; sizes are rounded up to multiples of 64. */
export interface KandinskyTextToImageOptions extends KandinskyDecoderOptions {
  /** Noise [B,C,height/8,width/8] to start from, of standard deviation 1. Not disposed. */
  latents?: Tensor;
}

const knownOptions = [...decoderOptionNames, 'latents'];

/** Embeddings of pictures → pictures, the second half of Kandinsky 2.2. */
export class KandinskyV22Pipeline extends DiffusionPipeline<KandinskyDecoderComponents> {
  /** @internal */
  static readonly family = kandinskyDecoder;

  /**
   * Draws pictures: B embeddings × numImagesPerPrompt, an embedding's pictures side by side.
   *
   * @throws InvalidArgumentError, before any network runs
   * @example const { images } = await decoder.generate({ ...(await prior.generate({ prompt })) });
   */
  generate(
    options: KandinskyTextToImageOptions & { outputType: 'tensor' | 'latent' },
  ): Promise<Pictures<Tensor>>;
  generate(
    options: KandinskyTextToImageOptions & { outputType?: 'image' },
  ): Promise<Pictures<Image[]>>;
  async generate(options: KandinskyTextToImageOptions): Promise<Pictures> {
    checkKnownOptions(options, knownOptions, "Kandinsky's decoder");
    const { components, dtype, device } = this;
    const { unet, movq, scheduler } = components;
    const guidanceScale = checkGuidanceScale(options, decoderDefaults.guidanceScale);
    const embeddings = checkEmbeddings(options, components, guidanceScale > 1);
    const request = checkGeneration(options, rowsOf(embeddings.imageEmbeds), guidanceScale);
    const { height, width } = textToImageSize(options, components);
    const sides = [height / movq.scaleFactor, width / movq.scaleFactor];
    const shape = [request.batch, unet.inChannels, ...sides];
    const given = checkLatents(options.latents, shape);
    const { numInferenceSteps = decoderDefaults.numInferenceSteps } = options;
    using run = scheduler.start({ numInferenceSteps });
    request.signal?.throwIfAborted();
    const pictures = await drawFromEmbeddings(components, request, {
      ...embeddings,
      run,
      timesteps: run.timesteps,
      firstLatents: async () => firstNoise({ shape, dtype, device }, given, request.generator, run),
    });
    return pictures;
  }
}
