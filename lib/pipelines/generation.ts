// What every generation has in common: its options, and the way from the first latents to pictures.
import type { Generator } from '../generator.js';
import type { Image } from '../image.js';
import { postprocessToImages } from '../images/preprocess.js';
import { SafetyChecker } from '../networks/safety-checker.js';
import { addScalar, clamp, linearCombination } from '../ops.js';
import {
  checkAtMostOne,
  checkChoice,
  checkFunction,
  checkGenerators,
  checkInteger,
  checkNumber,
  checkSignal,
  defaults,
  type OutputType,
} from '../options.js';
import type { SchedulerRun, StartOptions } from '../schedulers/scheduler.js';
import type { Tensor } from '../tensor.js';
import { denoise, type StepChanges, type StepProgress } from './denoise.js';
import { type LatentDecoder, rememberOrigin } from './latent-origin.js';

/** What `onStep` is told after each step. */
export interface StepEvent extends StepProgress {
  /** Decodes the latents as this step left them; call it before the callback ends. */
  preview(): Promise<Image[]>;
}

/** Called after each step, and waited for; may change how it goes on. */
export type StepCallback = (
  event: StepEvent,
  // biome-ignore lint/suspicious/noConfusingVoidType: callbacks without an answer are the usual case
) => void | StepChanges | Promise<void | StepChanges>;

/** Options that all pipelines share; diffusers' names and, unless said otherwise, its defaults. */
export interface GenerationOptions {
  /** Steps of the whole schedule, before `strength` shortens it; 50 unless the pipeline says. */
  numInferenceSteps?: number;
  /** How closely to follow the prompt. At 1 or less the negative prompt plays no part. */
  guidanceScale?: number;
  /** Pictures per prompt; 1. */
  numImagesPerPrompt?: number;
  /**
   * A whole number, or one per picture: the picture that Python draws from it. Beyond 2⁵³ a bigint. At
   * random unless given.
   */
  seed?: number | bigint | readonly (number | bigint)[];
  /** Instead of `seed`: a generator that goes on where it stands, or one per picture. */
  generator?: Generator | readonly Generator[];
  /** `'image'` (default), `'tensor'` ([B,3,H,W] in 0..1) or `'latent'` ([B,C,h,w], scaled). */
  outputType?: OutputType;
  /** Called after each step, and waited for. */
  onStep?: StepCallback;
  /** Stops within one step; the promise rejects with the signal's reason. */
  signal?: AbortSignal;
}

export const generationOptionNames = [
  'numInferenceSteps',
  'guidanceScale',
  'numImagesPerPrompt',
  'seed',
  'generator',
  'outputType',
  'onStep',
  'signal',
];

/** Options of schedules of the caller's own, where the scheduler takes them. */
export interface ScheduleOptions {
  /** Steps of the whole schedule, 1 or more, before `strength` shortens it; 50. */
  numInferenceSteps?: number;
  /**
   * Timesteps to visit, descending, mostly from 999 to 0, for schedulers that take them; instead of
   * numInferenceSteps.
   */
  timesteps?: readonly number[];
  /**
   * Noise levels to visit, descending to the final one, mostly from about 14 to 0, for schedulers that
   * take them; instead of numInferenceSteps.
   */
  sigmas?: readonly number[];
}

/** The common options after all checks. */
export interface GenerationRequest {
  /** Pictures in all: prompts × numImagesPerPrompt. */
  batch: number;
  guidanceScale: number;
  generator: Generator | readonly Generator[];
  outputType: OutputType;
  onStep: StepCallback | undefined;
  signal: AbortSignal | undefined;
}

/** Results that hold pictures, or the tensor that was asked for, which the caller disposes. */
export interface Pictures<Output extends Image[] | Tensor = Image[] | Tensor> {
  /** One at least, and so the types say: `const { images: [image] } = await pipe.generate(…)`. */
  images: Output extends Image[] ? SomeImages : Output;
  /**
   * For each picture whether the checkpoint's safety checker blackened it; only where there is a
   * checker and something to look at.
   */
  nsfwContentDetected?: boolean[];
}

/** @throws InvalidArgumentError before any network runs */
export function checkGuidanceScale(options: GenerationOptions, fallback: number): number {
  return checkNumber(options.guidanceScale ?? fallback, 'guidanceScale');
}

/** @throws InvalidArgumentError before any network runs */
export function checkGeneration(
  options: GenerationOptions,
  prompts: number,
  guidanceScale: number,
): GenerationRequest {
  const perPrompt = options.numImagesPerPrompt ?? defaults.numImagesPerPrompt;
  const batch = prompts * checkInteger(perPrompt, 'numImagesPerPrompt', 1);
  checkFunction(options.onStep, 'onStep');
  checkSignal(options.signal);
  return {
    batch,
    guidanceScale,
    generator: checkGenerators(options, batch),
    outputType: checkChoice(options.outputType ?? defaults.outputType, 'outputType', [
      'image',
      'tensor',
      'latent',
    ]),
    onStep: options.onStep,
    signal: options.signal,
  };
}

export function checkEta(options: { eta?: number }): number {
  return checkNumber(options.eta ?? defaults.eta, 'eta', { min: 0, max: 1 });
}

export function checkGuidanceRescale(options: { guidanceRescale?: number }): number {
  const limits = { min: 0, max: 1 };
  return checkNumber(
    options.guidanceRescale ?? defaults.guidanceRescale,
    'guidanceRescale',
    limits,
  );
}

/** The schedule that the options ask for. @throws InvalidArgumentError */
export function startOptions(options: ScheduleOptions, rest: StartOptions = {}): StartOptions {
  const { timesteps, sigmas, numInferenceSteps } = options;
  checkAtMostOne({ timesteps, sigmas });
  if (timesteps !== undefined) return { ...rest, timesteps };
  if (sigmas !== undefined) return { ...rest, sigmas };
  return { ...rest, numInferenceSteps: numInferenceSteps ?? defaults.numInferenceSteps };
}

/** From the first latents to what the caller asked for. */
export interface Drawing {
  request: GenerationRequest;
  run: SchedulerRun;
  /** The timesteps to visit; all of the run's unless given. */
  timesteps?: readonly number[];
  /** The noisy latents, [B,C,h,w]. */
  latents: Tensor;
  /** One network pass over `sample`, [B,…] or, when `guided`, [2B,…] with the negative half first. */
  predict(sample: Tensor, timestep: number, guided: boolean, step: number): Promise<Tensor>;
  guided: boolean;
  guidanceRescale?: number;
  eta?: number;
  decoder: LatentDecoder;
  /** Blackens what may not be shown. */
  safetyChecker?: SafetyChecker | undefined;
}

/** Denoises and decodes. @throws the signal's reason, within one step */
export async function draw(drawing: Drawing): Promise<Pictures> {
  const { request, run, safetyChecker } = drawing;
  const { outputType, signal, onStep } = request;
  using denoised = await denoise({
    ...request,
    run,
    timesteps: drawing.timesteps ?? run.timesteps,
    latents: drawing.latents,
    guided: drawing.guided,
    guidanceRescale: drawing.guidanceRescale ?? 0,
    eta: drawing.eta ?? 0,
    predict: (...values) => drawing.predict(...values),
    onStep:
      onStep &&
      ((progress) => onStep({ ...progress, preview: () => preview(progress.latents, drawing) })),
  });
  if (outputType === 'latent') {
    const images = denoised.alias();
    rememberOrigin(images, drawing.decoder);
    return { images };
  }
  using decoded = await toPicture(denoised, drawing.decoder);
  signal?.throwIfAborted();
  if (safetyChecker === undefined) return { images: await toOutput(decoded, outputType) };
  const nsfwContentDetected = await safetyChecker.check(await toImages(decoded));
  signal?.throwIfAborted();
  using reviewed = SafetyChecker.blacken(decoded, nsfwContentDetected);
  return { images: await toOutput(reviewed, outputType), nsfwContentDetected };
}

type SomeImages = [Image, ...Image[]];

async function preview(latents: Tensor, drawing: Drawing): Promise<Image[]> {
  using picture = await toPicture(latents, drawing.decoder);
  return await toImages(picture);
}

/** The picture of latents, [B,3,H,W] in 0..1, clamped; float32. */
export async function toPicture(latents: Tensor, decoder: LatentDecoder): Promise<Tensor> {
  using pixels = await decoder.decode(latents);
  using halved = linearCombination([0.5], [pixels], { dtype: 'float32' });
  using shifted = addScalar(halved, 0.5);
  return clamp(shifted, 0, 1);
}

async function toOutput(picture: Tensor, outputType: OutputType): Promise<Tensor | SomeImages> {
  return outputType === 'tensor' ? picture.alias() : await toImages(picture);
}

async function toImages(picture: Tensor): Promise<SomeImages> {
  const { shape } = picture;
  return postprocessToImages(await picture.toFloat32Array(), shape) as SomeImages;
}
