// The one denoising loop: for each timestep, scale → network → guidance → scheduler step. Pipelines
// differ in what comes before it and after it.
import { expectedShape } from '../errors.js';
import type { Generator } from '../generator.js';
import { UNet } from '../networks/unet.js';
import { concat, divide, linearCombination, multiply, narrow, std } from '../ops.js';
import { checkNumber, checkTensor } from '../options.js';
import type { SchedulerRun } from '../schedulers/scheduler.js';
import type { Tensor } from '../tensor.js';

/** Where a run stands after a step. */
export interface StepProgress {
  /** 0 for the first step. */
  step: number;
  /** How many there are. */
  steps: number;
  /** The step's timestep, about 999 (noise) to 0 (picture); may be fractional. */
  timestep: number;
  /** The latents after this step, [B,…]; the loop's own: use `alias()` to keep them. */
  latents: Tensor;
}

/** What callbacks after each step may answer. */
export interface StepChanges {
  /** Goes on with these latents, [B,…] as those it was told, which the loop takes over. */
  latents?: Tensor;
  /** Guidance from the next step on; 1 or less switches it off. */
  guidanceScale?: number;
  /** Skips the remaining steps; the picture is decoded as it is. */
  interrupt?: boolean;
}

/** Called after each step, and waited for. */
export type ProgressCallback = (
  progress: StepProgress,
  // biome-ignore lint/suspicious/noConfusingVoidType: callbacks without an answer are the usual case
) => void | StepChanges | Promise<void | StepChanges>;

export interface DenoiseOptions {
  run: SchedulerRun;
  /** Those of the run's timesteps that are visited, from the first on. */
  timesteps: readonly number[];
  /** The noisy latents, [B,…]. */
  latents: Tensor;
  /**
   * One network pass over `sample`, [B,…] or, when `guided`, [2B,…] with the negative half first. What
   * it predicts beside the latents' channels is a variance, of which guidance takes the conditional.
   */
  predict(sample: Tensor, timestep: number, guided: boolean, step: number): Promise<Tensor>;
  /** Whether the embeddings have a negative half at all. */
  guided: boolean;
  guidanceScale: number;
  /** Pulls the guided prediction's spread towards the conditional one's (arXiv 2305.08891, 3.4). */
  guidanceRescale: number;
  eta: number;
  generator: Generator | readonly Generator[];
  signal: AbortSignal | undefined;
  onStep: ProgressCallback | undefined;
}

/** The denoised latents. @throws the signal's reason, within one step */
export async function denoise(options: DenoiseOptions): Promise<Tensor> {
  const { run, timesteps, signal, onStep } = options;
  const steps = timesteps.length;
  let { guidanceScale } = options;
  let latents = options.latents.alias();
  try {
    for (const [step, timestep] of timesteps.entries()) {
      signal?.throwIfAborted();
      const guided = options.guided && guidanceScale > 1;
      const scale = guided ? guidanceScale : undefined;
      using prediction = await predictNoise(options, latents, timestep, step, scale);
      signal?.throwIfAborted();
      const previous = run.step(prediction, timestep, latents, {
        eta: options.eta,
        generator: options.generator,
      });
      latents.dispose();
      latents = previous;
      const changes = await onStep?.({ step, steps, timestep, latents });
      if (changes?.latents !== undefined) latents = replaced(latents, changes.latents);
      guidanceScale = checkNumber(
        changes?.guidanceScale ?? guidanceScale,
        "onStep's guidanceScale",
      );
      if (changes?.interrupt === true) break;
    }
    signal?.throwIfAborted();
    return latents.alias();
  } finally {
    latents.dispose();
  }
}

async function predictNoise(
  options: DenoiseOptions,
  latents: Tensor,
  timestep: number,
  step: number,
  guidanceScale: number | undefined,
): Promise<Tensor> {
  using scaled = options.run.scaleModelInput(latents, timestep);
  if (guidanceScale === undefined) return await options.predict(scaled, timestep, false, step);
  using pair = concat([scaled, scaled]);
  using both = await options.predict(pair, timestep, true, step);
  const [batch = 0, channels = 0] = latents.shape;
  using unconditional = narrow(both, 0, 0, batch);
  using conditional = narrow(both, 0, batch, batch);
  const predicted = both.shape[1] as number;
  if (predicted === channels) return guide(unconditional, conditional, guidanceScale, options);
  using unconditionalNoise = narrow(unconditional, 1, 0, channels);
  using conditionalNoise = narrow(conditional, 1, 0, channels);
  using noise = guide(unconditionalNoise, conditionalNoise, guidanceScale, options);
  using variance = narrow(conditional, 1, channels, predicted - channels);
  return concat([noise, variance], 1);
}

function guide(
  unconditional: Tensor,
  conditional: Tensor,
  scale: number,
  { guidanceRescale }: DenoiseOptions,
): Tensor {
  using prediction = UNet.guide(unconditional, conditional, scale);
  if (guidanceRescale === 0) return prediction.alias();
  return rescale(prediction, conditional, guidanceRescale);
}

function rescale(prediction: Tensor, conditional: Tensor, amount: number): Tensor {
  const dims = prediction.shape.map((_, dim) => dim).slice(1);
  using wanted = std(conditional, dims, true);
  using actual = std(prediction, dims, true);
  using factor = divide(wanted, actual);
  using rescaled = multiply(prediction, factor);
  return linearCombination([amount, 1 - amount], [rescaled, prediction]);
}

function replaced(old: Tensor, fresh: unknown): Tensor {
  if (fresh === old) return old;
  const { shape, dtype, device } = old;
  const latents = checkTensor(fresh, "onStep's latents", shape.length);
  if (latents.shape.join() !== shape.join()) {
    throw expectedShape(shape, "onStep's latents", latents.shape);
  }
  old.dispose();
  if (latents.dtype === dtype && latents.device === device) return latents;
  using foreign = latents;
  return foreign.to({ dtype, device });
}
