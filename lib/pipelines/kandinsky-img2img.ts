import { familyDefaults } from '../defaults.js';
import { expected } from '../errors.js';
import type { Image } from '../image.js';
import { repeatInterleave } from '../ops.js';
import { checkKnownOptions, checkNumber } from '../options.js';
import { skipTimesteps } from '../schedulers/scheduler.js';
import type { Tensor } from '../tensor.js';
import { checkGeneration, checkGuidanceScale, type Pictures } from './generation.js';
import type { InitImage } from './init-image.js';
import { type KandinskyDecoderComponents, kandinskyDecoder } from './kandinsky-components.js';
import {
  checkEmbeddings,
  decoderDefaults,
  decoderOptionNames,
  drawFromEmbeddings,
  type KandinskyDecoderOptions,
  rowsOf,
} from './kandinsky-decoder.js';
import { encodeKandinskyImage, readKandinskyImage } from './kandinsky-init-image.js';
import { imageToImageSize } from './kandinsky-size.js';
import { DiffusionPipeline } from './pipeline.js';

/** Options of image-to-image with Kandinsky; strength is 0.3 here. */
export interface KandinskyInitOptions {
  /**
   * The picture to start from: a path, URL, file bytes, Image or sharp instance, or a Tensor of
   * pixels ([3,H,W] or [B,3,H,W] in 0..1); or an array of those. All are stretched to `height` and
   * `width`, multiples of 64.
   */
  image: InitImage | readonly InitImage[];
  /** Share of the schedule that runs, 0 to 1: how much of the picture is redrawn; 0.3. */
  strength?: number;
}

/** Options of image-to-image from embeddings. */
export type KandinskyImageToImageOptions = KandinskyDecoderOptions & KandinskyInitOptions;

const knownOptions = [...decoderOptionNames, 'image', 'strength'];

/** Pictures and embeddings of pictures → pictures, the second half of Kandinsky 2.2. */
export class KandinskyV22Img2ImgPipeline extends DiffusionPipeline<KandinskyDecoderComponents> {
  /** @internal */
  static readonly family = kandinskyDecoder;

  /**
   * Redraws pictures: B embeddings × numImagesPerPrompt, an embedding's pictures side by side; one
   * image for all embeddings, or one for each.
   *
   * @throws InvalidArgumentError, ImageError, before any network runs
   */
  generate(
    options: KandinskyImageToImageOptions & { outputType: 'tensor' | 'latent' },
  ): Promise<Pictures<Tensor>>;
  generate(
    options: KandinskyImageToImageOptions & { outputType?: 'image' },
  ): Promise<Pictures<Image[]>>;
  async generate(options: KandinskyImageToImageOptions): Promise<Pictures> {
    checkKnownOptions(options, knownOptions, 'Image-to-image');
    const { components } = this;
    const { movq, scheduler } = components;
    const strength = checkStrength(options);
    const guidanceScale = checkGuidanceScale(options, decoderDefaults.guidanceScale);
    const embeddings = checkEmbeddings(options, components, guidanceScale > 1);
    const count = rowsOf(embeddings.imageEmbeds);
    const request = checkGeneration(options, count, guidanceScale);
    const size = imageToImageSize(options, components);
    const { numInferenceSteps = decoderDefaults.numInferenceSteps } = options;
    using run = scheduler.start({ numInferenceSteps });
    const timesteps = lastTimesteps(run.timesteps, numInferenceSteps, strength);
    request.signal?.throwIfAborted();
    using pixels = await readKandinskyImage(options.image, movq, size, request.signal);
    const images = pixels.shape[0] as number;
    if (images !== 1 && images !== count) {
      throw expected(`one image or ${count}, one for each embedding,`, 'image', images);
    }
    const rows = (latents: Tensor) => repeatInterleave(latents, request.batch / count);
    const pictures = await drawFromEmbeddings(components, request, {
      ...embeddings,
      run,
      timesteps,
      firstLatents: () =>
        encodeKandinskyImage({ pixels, rows }, movq, request, run, timesteps[0] as number),
    });
    return pictures;
  }
}

/** @throws InvalidArgumentError */
export function checkStrength({
  strength = familyDefaults.kandinsky.strength,
}: {
  strength?: number;
}): number {
  return checkNumber(strength, 'strength', { min: 0, max: 1 });
}

/**
 * The timesteps that strength leaves. Kandinsky counts them as if each were a step, whatever the
 * scheduler's order is, and schedulers find their place by the first one.
 *
 * @throws InvalidArgumentError where none is left
 */
export function lastTimesteps(
  timesteps: readonly number[],
  numInferenceSteps: number,
  strength: number,
): readonly number[] {
  return skipTimesteps(timesteps, numInferenceSteps, 1, { strength }).timesteps;
}
