// Several pipelines in a row, each drawing on what the one before it has drawn.
import { expected } from '../errors.js';
import type { Image } from '../image.js';
import { checkFunction, checkKnownOptions, checkSignal } from '../options.js';
import { Tensor } from '../tensor.js';
import type { StepChanges } from './denoise.js';
import type { Pictures, StepCallback, StepEvent } from './generation.js';

/** What `onStep` of a chain is told after each step of each stage. */
export interface ChainStepEvent extends StepEvent {
  /** 0 for the first stage. */
  stage: number;
  /** How many there are. */
  stages: number;
}

/** Options of `chain`. */
export interface ChainOptions {
  /** Called after each step of each stage, and waited for. */
  onStep?: (
    event: ChainStepEvent,
    // biome-ignore lint/suspicious/noConfusingVoidType: callbacks without an answer are the usual case
  ) => void | StepChanges | Promise<void | StepChanges>;
  /** Stops the stage at work within one step; the promise rejects with the signal's reason. */
  signal?: AbortSignal;
}

/** The chain's options, for a stage to pass on to its `generate`. */
export interface StageOptions {
  /** Tells the chain about the stage's steps. */
  onStep?: StepCallback;
  /** The chain's own, where it has one. */
  signal?: AbortSignal;
}

type Drawn = Tensor | Image[];

/**
 * Draws on what the stage before it has drawn, which is the chain's to dispose; the first stage is
 * given undefined.
 */
export type Stage<Input extends Drawn | undefined = Drawn, Output extends Drawn = Drawn> = (
  image: Input,
  options: StageOptions,
) => Promise<Pictures<Output>>;

/**
 * Runs stages in a row and gives what the last one draws, which the caller disposes. Tensors between
 * the stages are disposed as soon as the next stage has drawn, and when anything fails.
 *
 * @throws what a stage throws, or the signal's reason
 * @example
 * const { images } = await chain(
 *   [
 *     (_, options) => textToImage.generate({ prompt, outputType: 'latent', ...options }),
 *     (image, options) => comic.generate({ prompt, image, outputType: 'latent', ...options }),
 *     (image, options) => upscaler.generate({ prompt, image, ...options }),
 *   ],
 *   { signal },
 * );
 */
export async function chain<Output extends Drawn>(
  stages: readonly [Stage<undefined>, ...Stage[], Stage<Drawn, Output>],
  options: ChainOptions = {},
): Promise<Pictures<Output>> {
  checkStages(stages);
  checkKnownOptions(options, ['onStep', 'signal'], 'A chain');
  const { onStep, signal } = options;
  checkFunction(onStep, 'onStep');
  checkSignal(signal);
  const optionsOf = (stage: number): StageOptions => ({
    ...(signal && { signal }),
    ...(onStep && {
      onStep: (event: StepEvent) => onStep({ ...event, stage, stages: stages.length }),
    }),
  });
  const [first, ...rest] = stages;
  signal?.throwIfAborted();
  let drawn: Pictures = await first(undefined, optionsOf(0));
  for (const [index, stage] of rest.entries()) {
    drawn = await next(drawn, async (image) => {
      signal?.throwIfAborted();
      return await stage(image, optionsOf(index + 1));
    });
  }
  return drawn as Pictures<Output>;
}

/** What is drawn on pictures, which are let go. */
async function next(
  { images }: Pictures,
  draw: (images: Drawn) => Promise<Pictures>,
): Promise<Pictures> {
  let drawn: Pictures | undefined;
  try {
    drawn = await draw(images);
    return drawn;
  } finally {
    if (images instanceof Tensor && images !== drawn?.images) images.dispose();
  }
}

function checkStages(stages: readonly unknown[]): void {
  if (!Array.isArray(stages) || stages.length < 2) {
    throw expected('an array of two or more functions', 'stages', stages);
  }
  for (const [index, stage] of stages.entries()) {
    if (typeof stage !== 'function') throw expected('a function', `stages[${index}]`, stage);
  }
}
