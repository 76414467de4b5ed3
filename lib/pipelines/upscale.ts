// The x4 upscaler: a diffusion model that sees the small picture, with some noise, beside its latents.
import { familyDefaults } from '../defaults.js';
import { expected } from '../errors.js';
import type { Generator } from '../generator.js';
import type { Image } from '../image.js';
import { Autoencoder, noiseLike } from '../networks/autoencoder.js';
import { addScalar, concat, full, linearCombination } from '../ops.js';
import { checkInteger, checkKnownOptions } from '../options.js';
import type { Scheduler } from '../schedulers/index.js';
import type { SchedulerRun } from '../schedulers/scheduler.js';
import type { Tensor } from '../tensor.js';
import type { ComponentKind, PipelineFamily } from './components.js';
import { checkLatents, firstNoise } from './first-noise.js';
import { misfitOfEmbeddings, misfitOfPlaces, misfitOfTokens } from './fit.js';
import { draw, type Pictures, startOptions, toPicture } from './generation.js';
import { type InitImage, PreparedImage, readImages, tile } from './init-image.js';
import {
  safetyCheckerKind,
  schedulerKind,
  textEncoderKind,
  tokenizerKind,
  unetKind,
  upcastAutoencoderKind,
} from './kinds.js';
import { decoderOf, type LatentDecoder } from './latent-origin.js';
import { DiffusionPipeline } from './pipeline.js';
import {
  encodeConditions,
  type StableDiffusionComponents,
  type StableDiffusionRequest,
} from './stable-diffusion.js';
import {
  checkRequest,
  type StableDiffusionOptions,
  stableDiffusionOptionNames,
} from './stable-diffusion-options.js';

/** What the x4 upscaler works with. */
export interface UpscaleComponents extends StableDiffusionComponents {
  /** Adds noise to the small picture. */
  lowResScheduler: Scheduler;
}

/** Whatever the autoencoder's config says, as in diffusers: early copies lack it. */
const scalingFactor = 0.08333;

const upscaleAutoencoderKind: ComponentKind<Autoencoder> = {
  ...upcastAutoencoderKind,
  load: async (source) => {
    const { network, drawsInFloat32 } = await upcastAutoencoderKind.load(source);
    return Object.assign(new Autoencoder(network, scalingFactor), { drawsInFloat32 });
  },
};

/** Colours of the small picture, which the UNet sees beside the latents. */
const imageChannels = 3;

const upscale: PipelineFamily<UpscaleComponents> = {
  slots: {
    scheduler: { name: 'scheduler', kind: schedulerKind },
    lowResScheduler: { name: 'low_res_scheduler', kind: schedulerKind },
    textEncoder: { name: 'text_encoder', kind: textEncoderKind },
    vae: { name: 'vae', kind: upscaleAutoencoderKind },
    unet: { name: 'unet', kind: unetKind },
    tokenizer: { name: 'tokenizer', kind: tokenizerKind },
    safetyChecker: { name: 'safety_checker', kind: safetyCheckerKind, optional: true },
  },
  config: { maxNoiseLevel: 350 },
  misfit: (components) => {
    const { unet, vae, textEncoder, tokenizer } = components;
    if (unet.inChannels !== vae.latentChannels + imageChannels) {
      return `the unet takes ${unet.inChannels} channels, not the ${vae.latentChannels} of the vae and the ${imageChannels} of a picture: it is no x4 upscaler`;
    }
    return (
      misfitOfEmbeddings(unet, [textEncoder]) ??
      misfitOfTokens(tokenizer, textEncoder) ??
      misfitOfPlaces(components)
    );
  },
};

/** numInferenceSteps is 75 here and guidanceScale 9. */
export interface UpscaleOptions extends Omit<StableDiffusionOptions, 'timesteps' | 'sigmas'> {
  /** Pictures, one per prompt; or latents, which are decoded first. */
  image: InitImage | readonly InitImage[];
  /** Noise that is added to the small picture, in training timesteps; 20. At most 350. */
  noiseLevel?: number;
  /** Noise [B·K,4,h,w] to start from, h and w being the small picture's in pixels. Not disposed. */
  latents?: Tensor;
  /** Decodes latents given as `image`; the autoencoder of the pipeline that made them by default. */
  vae?: LatentDecoder;
}

const knownOptions = [
  ...stableDiffusionOptionNames.filter((name) => name !== 'timesteps' && name !== 'sigmas'),
  'image',
  'noiseLevel',
  'latents',
  'vae',
];

const { upscaleX4: defaults } = familyDefaults;

/** Makes pictures four times as high and wide, after a text. */
export class StableDiffusionUpscalePipeline extends DiffusionPipeline<UpscaleComponents> {
  /** @internal */
  static readonly family = upscale;

  /**
   * Makes pictures, or latents of another pipeline, four times as high and wide.
   *
   * @throws InvalidArgumentError, ImageError, before any network runs
   * @example
   * const { images: latents } = await x2.generate({ prompt, image: small, outputType: 'latent' });
   * const { images } = await x4.generate({ prompt, image: latents });
   */
  generate(
    options: UpscaleOptions & { outputType: 'tensor' | 'latent' },
  ): Promise<Pictures<Tensor>>;
  generate(options: UpscaleOptions & { outputType?: 'image' }): Promise<Pictures<Image[]>>;
  async generate(options: UpscaleOptions): Promise<Pictures> {
    checkKnownOptions(options, knownOptions, 'Upscaling');
    const { components, dtype, device } = this;
    const { vae, scheduler, lowResScheduler } = components;
    const { guidanceScale: defaultGuidanceScale } = defaults;
    const request = checkRequest(components, options, { defaultGuidanceScale });
    const noiseLevel = this.#noiseLevel(options);
    const { numInferenceSteps = defaults.numInferenceSteps } = options;
    using run = scheduler.start(startOptions({ numInferenceSteps }));
    using lowRes = lowResScheduler.start({ numInferenceSteps: 1 });
    request.signal?.throwIfAborted();
    using image = await this.#readPictures(options, request);
    const [, , height = 0, width = 0] = image.tensor.shape;
    const shape = [request.batch, vae.latentChannels, height, width];
    const noise = checkLatents(options.latents, shape);
    using conditions = await encodeConditions(components, request.prompt);
    request.signal?.throwIfAborted();
    using noisy = this.#withNoise(image.tensor, lowRes, noiseLevel, request);
    using latents = firstNoise({ shape, dtype, device }, noise, request.generator, run);
    using small = tile(noisy, request.batch);
    using both = concat([small, small]);
    const { unet, safetyChecker } = components;
    const pictures = await draw({
      request,
      run,
      latents,
      guided: request.prompt.guided,
      eta: request.eta,
      decoder: vae,
      safetyChecker,
      predict: async (sample, timestep, guided) => {
        using input = concat([sample, guided ? both : small], 1);
        const rows = [input.shape[0] as number];
        using classLabels = full(rows, noiseLevel, { dtype: 'int64', device });
        const { promptEmbeds } = conditions.of(guided);
        return await unet.predict(input, timestep, promptEmbeds, { classLabels });
      },
    });
    return pictures;
  }

  #noiseLevel(options: UpscaleOptions): number {
    const level = checkInteger(options.noiseLevel ?? defaults.noiseLevel, 'noiseLevel', 0);
    const most = Number(this.config.maxNoiseLevel);
    if (level <= most) return level;
    throw expected(`at most ${most}`, 'noiseLevel', level);
  }

  async #readPictures(
    options: UpscaleOptions,
    { batch, prompt, signal }: StableDiffusionRequest,
  ): Promise<PreparedImage> {
    const { vae } = this.components;
    const image = await readImages(options.image, vae, signal, { filter: 'bicubic' });
    const [count = 0] = image.tensor.shape;
    const prompts = batch / prompt.numImagesPerPrompt;
    if (count !== prompts) {
      image[Symbol.dispose]();
      throw expected(`${prompts} images, one per prompt,`, 'image', count);
    }
    if (image.kind === 'pixels') return image;
    using latents = image;
    const decoder = decoderOf(options.image, options.vae);
    return new PreparedImage('pixels', await decodeSource(latents.tensor, decoder));
  }

  #withNoise(
    pixels: Tensor,
    lowRes: SchedulerRun,
    noiseLevel: number,
    { generator }: StableDiffusionRequest,
  ): Tensor {
    const { dtype, device } = this;
    using placed = pixels.to({ dtype, device });
    const each = Array.isArray(generator);
    const source: Generator | readonly Generator[] = each
      ? (generator as readonly Generator[]).slice(0, placed.shape[0])
      : generator;
    using noise = noiseLike(placed, source);
    return lowRes.addNoise(placed, noise, noiseLevel);
  }
}

/** Latents → the pixels that the pipeline that made them would have shown, −1..1. */
async function decodeSource(latents: Tensor, decoder: LatentDecoder): Promise<Tensor> {
  using picture = await toPicture(latents, decoder);
  using doubled = linearCombination([2], [picture]);
  return addScalar(doubled, -1);
}
