// What img2img and txt2img do.
import { checkInteger } from '../checks.js';
import { InvalidArgumentError } from '../errors.js';
import { type Image, loadImage } from '../image.js';
import {
  StableDiffusionXLImg2ImgPipeline,
  type XLImageToImageOptions,
} from '../pipelines/stable-diffusion-xl-img2img.js';
import type { Tensor } from '../tensor.js';
import { type Drawn, drawAll, type JobOptions } from './draw.js';
import type { GenerateFlags } from './flags.js';
import { findInputs, type Input, perPrompt, readPrompts } from './inputs.js';
import { signal } from './interrupt.js';
import { type Job, planJobs } from './jobs.js';
import { loadGenerator } from './load-pipeline.js';
import { checkOutput } from './output.js';

export async function textToImage(flags: GenerateFlags): Promise<void> {
  const jobs = await plan(flags, undefined);
  const { height, width } = flags;
  const image = controlImages(flags);
  const began = performance.now();
  using pipe = await loadGenerator('textToImage', flags);
  using refiner = await loadRefiner(flags);
  const loading = performance.now() - began;
  const draw = (job: Job, common: JobOptions): Promise<Drawn> => {
    const options = { ...generateOptions(flags, job, common), height, width, image };
    if (refiner === undefined) return pipe.generate(options);
    return refined(flags, refiner, options, (given) =>
      pipe.generate({ ...(given as typeof options), outputType: 'latent' }),
    );
  };
  await drawAll({ pipe, flags, jobs, draw, loading });
}

export async function imageToImage(flags: GenerateFlags): Promise<void> {
  const inputs = findInputs(flags.image ?? []);
  const jobs = await plan(flags, inputs);
  const controlImage = controlImages(flags);
  const began = performance.now();
  using pipe = await loadGenerator('imageToImage', flags);
  using refiner = await loadRefiner(flags);
  const loading = performance.now() - began;
  const draw = async (job: Job, common: JobOptions): Promise<Drawn> => {
    const image = await initImage((job.input as Input).path, flags);
    const { strength } = flags;
    const options = { ...generateOptions(flags, job, common), image, strength, controlImage };
    if (refiner === undefined) return await pipe.generate(options);
    return await refined(flags, refiner, options, (given) =>
      pipe.generate({ ...(given as typeof options), outputType: 'latent' }),
    );
  };
  await drawAll({ pipe, flags, jobs, draw, loading });
}

async function plan(flags: GenerateFlags, inputs: readonly Input[] | undefined): Promise<Job[]> {
  checkOutput(flags);
  const prompts = await readPrompts(flags);
  const negative = perPrompt(flags.negativePrompt, prompts, '--negative-prompt');
  const second = perPrompt(flags.prompt2, prompts, '--prompt-2');
  const negative2 = perPrompt(flags.negativePrompt2, prompts, '--negative-prompt-2');
  const { numImages = 1, controlImage = [] } = flags;
  checkInteger(numImages, '--num-images', 1);
  return planJobs({
    flags,
    inputs,
    imagesPerJob: numImages,
    texts: prompts.map((prompt, i) => ({
      prompt,
      negativePrompt: negative[i],
      prompt2: second[i],
      negativePrompt2: negative2[i],
    })),
    read: [...(inputs ?? []).map(({ path }) => path), ...controlImage],
  });
}

/** Options that every class may know; undefined ones count as not given. */
function generateOptions(flags: GenerateFlags, job: Job, { seed, onStep, signal }: JobOptions) {
  const { prompt, negativePrompt, prompt2, negativePrompt2 } = job;
  const one = (values: number[] | undefined) => (values?.length === 1 ? values[0] : values);
  return {
    ...{ prompt, negativePrompt, prompt2, negativePrompt2, seed, onStep, signal },
    weighting: flags.weighting,
    guidanceScale: flags.guidanceScale,
    guidanceRescale: flags.guidanceRescale,
    numInferenceSteps: flags.steps,
    timesteps: flags.timesteps,
    sigmas: flags.sigmas,
    originalInferenceSteps: flags.originalSteps,
    numImagesPerPrompt: flags.numImages,
    clipSkip: flags.clipSkip,
    eta: flags.eta,
    controlnetConditioningScale: one(flags.controlnetScale),
    controlGuidanceStart: one(flags.controlStart),
    controlGuidanceEnd: one(flags.controlEnd),
    guessMode: flags.guessMode,
  };
}

/** @throws InvalidArgumentError unless there is one for each ControlNet */
function controlImages({ controlnet = [], controlImage = [] }: GenerateFlags) {
  // A checkpoint may come with a ControlNet.
  if (controlnet.length > 0 && controlImage.length !== controlnet.length) {
    throw new InvalidArgumentError(
      `Expected ${controlnet.length} --control-image, one for each --controlnet, but received ${controlImage.length}.`,
    );
  }
  return controlImage.length > 1 ? controlImage : controlImage[0];
}

/** The picture, resized where the flags say so; one side given, the other keeps the proportion. */
async function initImage(path: string, { height, width }: GenerateFlags): Promise<string | Image> {
  if (height === undefined && width === undefined) return path;
  const image = await loadImage(path, { signal });
  const scale = (height ?? 0) / image.height || (width ?? 0) / image.width;
  return image.resize(
    width ?? Math.max(1, Math.round(image.width * scale)),
    height ?? Math.max(1, Math.round(image.height * scale)),
    { filter: 'lanczos' },
  );
}

async function loadRefiner(flags: GenerateFlags) {
  if (flags.refiner === undefined) return undefined;
  const { dtype, device, variant, threads, offline, quiet, batch, previewEvery, output } = flags;
  const pipe = await loadGenerator('imageToImage', {
    ...{ dtype, device, variant, threads, offline, quiet, batch, previewEvery, output },
    model: flags.refiner,
    safetyChecker: flags.safetyChecker,
    refinerStart: flags.refinerStart,
  });
  if (pipe instanceof StableDiffusionXLImg2ImgPipeline) return pipe;
  using wrong = pipe;
  throw new InvalidArgumentError(
    `Expected a checkpoint of Stable Diffusion XL for --refiner but received a ${wrong.constructor.name}.`,
  );
}

/** The base draws until the refiner starts, which goes on with its latents. */
async function refined(
  { refinerStart }: GenerateFlags,
  refiner: StableDiffusionXLImg2ImgPipeline,
  options: Partial<ReturnType<typeof generateOptions>>,
  base: (options: object) => Promise<{ images: Tensor }>,
): Promise<Drawn> {
  const { images } = await base({ ...options, denoisingEnd: refinerStart });
  using latents = images;
  const { prompt, negativePrompt, guidanceScale, numInferenceSteps, numImagesPerPrompt } = options;
  const { seed, onStep, signal, weighting, eta } = options;
  return await refiner.generate({
    ...{ prompt, negativePrompt, guidanceScale, numInferenceSteps, numImagesPerPrompt },
    ...{ seed, onStep, signal, weighting, eta, image: latents, denoisingStart: refinerStart },
  } as XLImageToImageOptions & { outputType?: 'image' });
}
