// What upscale does.
import { openCheckpointFolder } from '../checkpoints/folder.js';
import { CheckpointError } from '../errors.js';
import { configure } from '../native.js';
import { StableDiffusionLatentUpscalePipeline } from '../pipelines/latent-upscale.js';
import type { DiffusionPipeline } from '../pipelines/pipeline.js';
import { StableDiffusionUpscalePipeline } from '../pipelines/upscale.js';
import { type Drawn, drawAll, type JobOptions } from './draw.js';
import { findInputs, type Input, perPrompt, readPrompts } from './inputs.js';
import { type Job, planJobs } from './jobs.js';
import { accessOf, chooseScheduler, LoadingProgress } from './load-pipeline.js';
import { checkOutput } from './output.js';
import type { UpscaleFlags } from './upscale.js';

/** Either of the two; each refuses the options that are not its own. */
type Upscaler = DiffusionPipeline & { generate(options: object): Promise<Drawn> };

export async function upscale(flags: UpscaleFlags): Promise<void> {
  checkOutput(flags);
  const inputs = findInputs(flags.image);
  const prompts = await readPrompts(flags, '');
  const negative = perPrompt(flags.negativePrompt, prompts, '--negative-prompt');
  const jobs = planJobs({
    flags,
    inputs,
    imagesPerJob: 1,
    texts: prompts.map((prompt, i) => ({ prompt, negativePrompt: negative[i] })),
    read: inputs.map(({ path }) => path),
  });
  const began = performance.now();
  using pipe = await load(flags);
  const loading = performance.now() - began;
  const draw = (job: Job, common: JobOptions) => pipe.generate(optionsOf(flags, job, common));
  await drawAll({ pipe, flags, jobs, draw, loading });
}

/** Options that one of the two upscalers knows, as far as they are given. */
function optionsOf(
  flags: UpscaleFlags,
  { input, prompt, negativePrompt }: Job,
  common: JobOptions,
) {
  return {
    ...common,
    ...{ prompt, negativePrompt, image: (input as Input).path },
    numInferenceSteps: flags.steps,
    guidanceScale: flags.guidanceScale,
    eta: flags.eta,
    clipSkip: flags.clipSkip,
    noiseLevel: flags.noiseLevel,
  };
}

async function load(flags: UpscaleFlags): Promise<Upscaler> {
  const { model, dtype, device, variant, safetyChecker } = flags;
  if (flags.threads !== undefined) configure({ threads: flags.threads });
  const loading = new LoadingProgress(flags.quiet);
  const access = accessOf(flags, loading);
  const options = { dtype, device, variant, ...access };
  try {
    const { className } = await openCheckpointFolder(model, access);
    let pipe: StableDiffusionLatentUpscalePipeline | StableDiffusionUpscalePipeline;
    if (className === 'StableDiffusionLatentUpscalePipeline') {
      pipe = await StableDiffusionLatentUpscalePipeline.fromPretrained(model, options);
    } else if (className === 'StableDiffusionUpscalePipeline') {
      const parts = safetyChecker ? {} : { safetyChecker: null };
      pipe = await StableDiffusionUpscalePipeline.fromPretrained(model, { ...options, ...parts });
    } else {
      throw new CheckpointError(
        `${model} is a ${className} and no upscaler. Upscalers are published as stabilityai/sd-x2-latent-upscaler and stabilityai/stable-diffusion-x4-upscaler.`,
      );
    }
    chooseScheduler(pipe, flags);
    return pipe as Upscaler;
  } finally {
    loading.stop();
  }
}
