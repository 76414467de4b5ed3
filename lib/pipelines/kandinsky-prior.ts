import { checkKnownOptions } from '../options.js';
import { type KandinskyPriorComponents, kandinskyPrior } from './kandinsky-components.js';
import {
  checkPriorRequest,
  drawEmbeddings,
  type KandinskyEmbeddings,
  type KandinskyPriorOptions,
  priorDefaults,
} from './kandinsky-embeddings.js';
import {
  interpolate,
  interpolationOptionNames,
  type KandinskyInterpolationOptions,
} from './kandinsky-interpolation.js';
import { DiffusionPipeline } from './pipeline.js';

const knownOptions = [
  'prompt',
  'negativePrompt',
  'numImagesPerPrompt',
  'numInferenceSteps',
  'guidanceScale',
  'seed',
  'generator',
  'latents',
  'onStep',
  'signal',
];

/** Text → embeddings of pictures, the first half of Kandinsky 2.2. */
export class KandinskyV22PriorPipeline extends DiffusionPipeline<KandinskyPriorComponents> {
  /** @internal */
  static readonly family = kandinskyPrior;

  /**
   * Draws embeddings: B prompts × numImagesPerPrompt, a prompt's embeddings side by side.
   *
   * @throws InvalidArgumentError, before any network runs
   * @example
   * const embeddings = await prior.generate({ prompt: 'a fox in the snow', seed: 7 });
   * const { images } = await decoder.generate({ ...embeddings, seed: 7 });
   */
  async generate(options: KandinskyPriorOptions): Promise<KandinskyEmbeddings> {
    checkKnownOptions(options, knownOptions, 'The prior');
    const { components } = this;
    const request = checkPriorRequest(components, options);
    const { numInferenceSteps = priorDefaults.numInferenceSteps } = options;
    using run = components.scheduler.start({ numInferenceSteps });
    request.signal?.throwIfAborted();
    return await drawEmbeddings(components, request, run);
  }

  /**
   * Mixes pictures and texts into one embedding.
   *
   * @throws InvalidArgumentError, ImageError, before any network runs
   * @example
   * const embeddings = await prior.interpolate({
   *   imagesAndPrompts: ['a cat', await loadImage('starry-night.jpg')],
   *   weights: [0.4, 0.6],
   * });
   */
  async interpolate(options: KandinskyInterpolationOptions): Promise<KandinskyEmbeddings> {
    checkKnownOptions(options, interpolationOptionNames, 'Interpolation');
    return await interpolate(this.components, options);
  }
}
