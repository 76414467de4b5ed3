// The x2 upscaler: a diffusion model on latents that sees the small latents beside its own.
import { familyDefaults } from '../defaults.js';
import { expected } from '../errors.js';
import type { Image } from '../image.js';
import type { Autoencoder } from '../networks/autoencoder.js';
import type { TextEncoder } from '../networks/text-encoder.js';
import type { UNet } from '../networks/unet.js';
import { concat, full, linearCombination, narrow, resizeNearest } from '../ops.js';
import { checkKnownOptions } from '../options.js';
import { rowLength, warnOfTruncation } from '../prompts/encode.js';
import type { Scheduler } from '../schedulers/index.js';
import type { SchedulerRun } from '../schedulers/scheduler.js';
import type { Tensor } from '../tensor.js';
import type { ClipTokenizer } from '../tokenizer/index.js';
import type { PipelineFamily } from './components.js';
import { Conditions } from './conditions.js';
import { checkLatents, firstNoise } from './first-noise.js';
import { misfitOfEmbeddings, misfitOfPlaces, misfitOfTokens } from './fit.js';
import {
  checkGeneration,
  checkGuidanceScale,
  draw,
  type GenerationOptions,
  type GenerationRequest,
  generationOptionNames,
  type Pictures,
} from './generation.js';
import { type InitImage, type PreparedImage, readImages } from './init-image.js';
import {
  autoencoderKind,
  schedulerKind,
  textEncoderKind,
  tokenizerKind,
  unetKind,
} from './kinds.js';
import { DiffusionPipeline } from './pipeline.js';
import {
  checkUpscalePrompts,
  type TextEmbeddings,
  type UpscalePrompts,
  type UpscaleTextOptions,
  upscaleTextOptionNames,
} from './upscale-prompts.js';

/** What the x2 upscaler works with. */
export interface LatentUpscaleComponents {
  /** The autoencoder. */
  vae: Autoencoder;
  /** Encodes prompts. */
  textEncoder: TextEncoder;
  /** Splits prompts for the text encoder. */
  tokenizer: ClipTokenizer;
  /** Denoises. */
  unet: UNet;
  /** The sampling algorithm. */
  scheduler: Scheduler;
}

const latentUpscale: PipelineFamily<LatentUpscaleComponents> = {
  slots: {
    scheduler: { name: 'scheduler', kind: schedulerKind },
    textEncoder: { name: 'text_encoder', kind: textEncoderKind },
    vae: { name: 'vae', kind: autoencoderKind },
    unet: { name: 'unet', kind: unetKind },
    tokenizer: { name: 'tokenizer', kind: tokenizerKind },
  },
  config: {},
  misfit: (components) => {
    const { unet, vae, textEncoder, tokenizer } = components;
    if (unet.inChannels !== 2 * vae.latentChannels) {
      return `the unet takes ${unet.inChannels} channels, not twice the ${vae.latentChannels} of the vae: it is no x2 upscaler`;
    }
    const width = noiseFeatures + textEncoder.width;
    if (unet.timeCondProjDim !== width) {
      return `the unet takes ${unet.timeCondProjDim ?? 'no'} numbers beside the time and the pipeline makes ${width}`;
    }
    return (
      misfitOfEmbeddings(unet, [textEncoder]) ??
      misfitOfTokens(tokenizer, textEncoder) ??
      misfitOfPlaces(components)
    );
  },
};

/** Cosines and sines of the noise added to the small latents: none, so ones and zeros. */
const noiseFeatures = 128;

const factor = 2;

/** numInferenceSteps is 75 here and guidanceScale 9. */
export interface LatentUpscaleOptions
  extends Omit<GenerationOptions, 'numImagesPerPrompt'>,
    UpscaleTextOptions {
  /** Pictures, or latents [B,4,h,w] of Stable Diffusion 1.x as they come from `outputType: 'latent'`. */
  image: InitImage | readonly InitImage[];
  /** Noise [B,4,2h,2w] to start from. Not disposed. */
  latents?: Tensor;
}

const knownOptions = [
  ...generationOptionNames.filter((name) => name !== 'numImagesPerPrompt'),
  ...upscaleTextOptionNames,
  'image',
  'latents',
];

const { upscaleX2: defaults } = familyDefaults;

/**
 * Doubles the size of pictures, or of the latents of a Stable Diffusion 1.x pipeline without decoding
 * them in between. Needs a scheduler with noise levels; the published one is Euler's.
 */
export class StableDiffusionLatentUpscalePipeline extends DiffusionPipeline<LatentUpscaleComponents> {
  /** @internal */
  static readonly family = latentUpscale;

  /**
   * Makes pictures, or latents of another pipeline, twice as high and wide.
   *
   * @throws InvalidArgumentError, ImageError, before any network runs
   * @example
   * const { images: small } = await pipe.generate({ prompt, outputType: 'latent' });
   * const { images } = await upscaler.generate({ prompt, image: small, numInferenceSteps: 20, guidanceScale: 0 });
   */
  generate(
    options: LatentUpscaleOptions & { outputType: 'tensor' | 'latent' },
  ): Promise<Pictures<Tensor>>;
  generate(options: LatentUpscaleOptions & { outputType?: 'image' }): Promise<Pictures<Image[]>>;
  async generate(options: LatentUpscaleOptions): Promise<Pictures> {
    checkKnownOptions(options, knownOptions, 'Upscaling');
    const { components } = this;
    const guidanceScale = checkGuidanceScale(options, defaults.guidanceScale);
    const texts = checkUpscalePrompts(options, guidanceScale, components.textEncoder);
    const request = checkGeneration(options, texts.count, guidanceScale);
    using run = startRun(
      components.scheduler,
      options.numInferenceSteps ?? defaults.numInferenceSteps,
    );
    request.signal?.throwIfAborted();
    using image = await readPictures(options, components, request);
    const [, , height = 0, width = 0] = image.tensor.shape;
    const scale = image.kind === 'latents' ? 1 : components.vae.scaleFactor;
    const [rows, columns] = [(factor * height) / scale, (factor * width) / scale];
    checkSides(components, [rows, columns]);
    const shape = [request.batch, components.vae.latentChannels, rows, columns];
    const noise = checkLatents(options.latents, shape);
    const pictures = await upscale(components, { request, run, image, texts, shape, noise });
    return pictures;
  }
}

function startRun(scheduler: Scheduler, numInferenceSteps: number): SchedulerRun {
  const run = scheduler.start({ numInferenceSteps });
  if (run.sigmas.length > 0) return run;
  run.dispose();
  throw expected('a scheduler with noise levels', 'scheduler', scheduler.className);
}

/** @throws InvalidArgumentError for latents that the network cannot halve as often as it must */
function checkSides(
  { unet, vae }: Readonly<LatentUpscaleComponents>,
  sides: readonly [number, number],
): void {
  if (sides.every((side) => side % unet.multipleOf === 0)) return;
  const pixels = (unet.multipleOf / factor) * vae.scaleFactor;
  const [height, width] = sides.map((side) => (side / factor) * vae.scaleFactor);
  throw expected(
    `pictures whose sides are multiples of ${pixels}`,
    'image',
    `${width}×${height}`,
    'Resize them first, for example with Image.resize.',
  );
}

async function readPictures(
  options: LatentUpscaleOptions,
  { vae }: LatentUpscaleComponents,
  { batch, signal }: GenerationRequest,
): Promise<PreparedImage> {
  const image = await readImages(options.image, vae, signal, { filter: 'bicubic' });
  const count = image.tensor.shape[0] as number;
  if (count === batch) return image;
  image[Symbol.dispose]();
  throw expected(`${batch} images, one per prompt,`, 'image', count);
}

interface Upscaling {
  request: GenerationRequest;
  run: SchedulerRun;
  image: PreparedImage;
  texts: UpscalePrompts;
  shape: readonly number[];
  noise: Tensor | undefined;
}

async function upscale(
  components: Readonly<LatentUpscaleComponents>,
  { request, run, image, texts, shape, noise }: Upscaling,
): Promise<Pictures> {
  const { unet, vae } = components;
  const { dtype, device } = unet.network;
  const guided = texts.negative !== undefined;
  using text = await encodeTexts(components, texts);
  request.signal?.throwIfAborted();
  using source = await encodeImage(components, image, request);
  using small = resizeNearest(source, shape[2] as number, shape[3] as number);
  using doubled = guided ? concat([small, small]) : small.alias();
  using latents = firstNoise({ shape, dtype, device }, noise, request.generator, run);
  const pictures = await draw({
    request,
    run,
    latents,
    guided,
    decoder: vae,
    predict: async (sample, _, isGuided, step) => {
      const sigma = run.sigmas[step] as number;
      using input = concat([sample, isGuided ? doubled : small], 1);
      const { promptEmbeds, timestepCond } = text.of(isGuided);
      // Karras et al., table 1 (https://arxiv.org/abs/2206.00364): what the network is told of the
      // noise, and how its output and the scaled sample make up the clean one.
      const time = 0.25 * Math.log(sigma);
      using output = await unet.predict(input, time, promptEmbeds, { timestepCond });
      // The last channel is a variance that nobody uses.
      using residual = narrow(output, 1, 0, vae.latentChannels);
      const scale = 1 / Math.sqrt(sigma ** 2 + 1);
      return linearCombination([scale, sigma * scale], [sample, residual]);
    },
  });
  return pictures;
}

/** Latents of the small pictures, [B,4,h,w]. */
async function encodeImage(
  { vae, unet }: Readonly<LatentUpscaleComponents>,
  { kind, tensor }: PreparedImage,
  { generator }: GenerationRequest,
): Promise<Tensor> {
  const { dtype, device } = unet.network;
  if (kind === 'latents') return tensor.to({ dtype, device });
  using encoded = await vae.encode(tensor, generator);
  return encoded.to({ dtype });
}

async function encodeTexts(
  components: Readonly<LatentUpscaleComponents>,
  { positive, negative }: UpscalePrompts,
): Promise<Conditions<'promptEmbeds' | 'timestepCond'>> {
  const first = await encodeText(components, positive);
  try {
    const second = negative && (await encodeText(components, negative));
    return Conditions.fromHalves(first, second);
  } catch (error) {
    for (const tensor of Object.values(first)) tensor.dispose();
    throw error;
  }
}

async function encodeText(
  components: Readonly<LatentUpscaleComponents>,
  texts: readonly string[] | TextEmbeddings,
): Promise<Record<'promptEmbeds' | 'timestepCond', Tensor>> {
  const { dtype, device } = components.unet.network;
  const { tokens, pooled } = await embeddingsOf(components, texts);
  using embeddings = tokens;
  using wholes = pooled;
  const half = [tokens.shape[0] as number, noiseFeatures / 2];
  using cosines = full(half, 1, { dtype, device });
  using sines = full(half, 0, { dtype, device });
  return { promptEmbeds: embeddings.alias(), timestepCond: concat([cosines, sines, wholes], 1) };
}

async function embeddingsOf(
  { tokenizer, textEncoder }: Readonly<LatentUpscaleComponents>,
  texts: readonly string[] | TextEmbeddings,
): Promise<TextEmbeddings> {
  const { dtype, device } = textEncoder.network;
  if ('tokens' in texts) {
    const [tokens, pooled] = [texts.tokens, texts.pooled].map((one) => one.to({ dtype, device }));
    return { tokens: tokens as Tensor, pooled: pooled as Tensor };
  }
  const maxLength = rowLength(tokenizer, textEncoder);
  warnOfTruncation(tokenizer, texts, maxLength);
  const { inputIds } = tokenizer.encode(texts, { maxLength });
  const { embeddings, pooled } = await textEncoder.encodeLast(inputIds);
  return { tokens: embeddings, pooled };
}
