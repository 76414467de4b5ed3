// One case or two for each option of the pipelines, and for each layout of published checkpoints.
import type { CaseOptions, ParityCase, TensorFile } from './case.js';

export interface OptionInputs {
  /** Two levels, factor 2, 77 tokens. */
  small: string;
  /** Four levels, factor 8. */
  large: string;
  /** Three levels, factor 4, v-prediction, 24 tokens, width 48. */
  short: string;
  /** Pictures of 24×32, 24×32 and 41×30 pixels. */
  images: [string, string, string];
  /** A picture of 72×104 pixels. */
  odd: string;
  /** [2,77,32], [2,77,32] and [1,90,32]. */
  embeddings: [TensorFile, TensorFile, TensorFile];
  /** [2,4,16,12] and [1,4,16,12]. */
  latents: [TensorFile, TensorFile];
  /** [1,3,32,24] in 0..1. */
  pixels: TensorFile;
}

/** What differs from the base; undefined takes an option away. */
type Changes = Partial<Omit<ParityCase, 'options'>> & CaseOptions;

const fields = new Set([
  'name',
  'checkpoint',
  'variant',
  'pipeline',
  'scheduler',
  'tensors',
  'image',
  'seeds',
  'output',
  'differsFrom',
]);

function made(base: Omit<ParityCase, 'name'>, name: string, changes: Changes): ParityCase {
  const own = Object.entries(changes).filter(([key]) => fields.has(key));
  const others = Object.entries(changes).filter(([key]) => !fields.has(key));
  const options = Object.entries({ ...base.options, ...Object.fromEntries(others) });
  return {
    ...base,
    ...Object.fromEntries(own),
    name,
    options: Object.fromEntries(options.filter(([, value]) => value !== undefined)),
  };
}

export function imageToImageOptions(inputs: OptionInputs): ParityCase[] {
  const [first, second, third] = inputs.images;
  const [embeds, negativeEmbeds, long] = inputs.embeddings;
  const base: Omit<ParityCase, 'name'> = {
    checkpoint: inputs.small,
    pipeline: 'StableDiffusionImg2ImgPipeline',
    options: { prompt: 'a red fox', strength: 0.7, numInferenceSteps: 5 },
    image: { files: [first] },
    seeds: 11,
  };
  const plain = 'image-to-image with defaults';
  const one = (name: string, changes: Changes) => made(base, name, changes);
  const other = (name: string, changes: Changes) => one(name, { differsFrom: plain, ...changes });
  const pair = { prompt: ['a red fox', 'a blue robot'] };
  const none = { prompt: undefined };
  return [
    one(plain, {}),
    other('another seed', { seeds: 12 }),
    other('a negative prompt', { negativePrompt: 'blurry, bad anatomy' }),
    other('negative prompts for two prompts', { ...pair, negativePrompt: ['blurry', 'text'] }),
    other('a negative prompt without guidance', { negativePrompt: 'blurry', guidanceScale: 1 }),
    other('guidance 3', { guidanceScale: 3 }),
    other('guidance 0.5, which switches it off', { guidanceScale: 0.5 }),
    other('a long prompt, cut off', { prompt: 'a lighthouse and a boat, '.repeat(30) }),
    other('an empty prompt', { prompt: '' }),
    other('other scripts and signs', { prompt: 'Füchse — 狐狸 🦊 ½ don’t <|endoftext|> A  B' }),
    other('clip skip 1', { clipSkip: 1 }),
    one('clip skip 2 of 3 layers', { checkpoint: inputs.large, clipSkip: 2 }),
    one('clip skip 0', { clipSkip: 0 }),
    one('three pictures for a prompt', { numImagesPerPrompt: 3 }),
    one('two pictures for each of two prompts', { ...pair, numImagesPerPrompt: 2 }),
    one('two images for two prompts', { ...pair, image: { files: [first, second] } }),
    one('two images, gone through in turn', {
      ...pair,
      numImagesPerPrompt: 2,
      image: { files: [first, second] },
    }),
    one('images forced to the first one’s size', { ...pair, image: { files: [third, first] } }),
    one('an image scaled down to a multiple of the factor', { image: { files: [third] } }),
    one('an image of 72×104 pixels', { checkpoint: inputs.large, image: { files: [inputs.odd] } }),
    one('a generator for each picture', { ...pair, seeds: [5, 6] }),
    one('a generator for each picture, one image', { numImagesPerPrompt: 3, seeds: [5, 6, 7] }),
    one('a generator for each picture and an image for each prompt', {
      ...pair,
      numImagesPerPrompt: 2,
      image: { files: [first, second] },
      seeds: [5, 6, 7, 8],
    }),
    one('a generator for each picture, fresh noise in each step', {
      ...pair,
      seeds: [5, 6],
      scheduler: { class: 'EulerAncestralDiscreteScheduler' },
    }),
    other('a list of one generator', { seeds: [5] }),
    other('prompt embeddings', { ...none, tensors: { promptEmbeds: embeds } }),
    one('prompt embeddings and negative prompts', {
      ...none,
      negativePrompt: ['blurry', 'text'],
      tensors: { promptEmbeds: embeds },
    }),
    one('prompt embeddings, negative too', {
      ...none,
      tensors: { promptEmbeds: embeds, negativePromptEmbeds: negativeEmbeds },
    }),
    one('prompt embeddings longer than the encoder, two pictures', {
      ...none,
      numImagesPerPrompt: 2,
      tensors: { promptEmbeds: long, negativePromptEmbeds: long },
    }),
    other('pixels as a tensor', { image: { tensor: inputs.pixels } }),
    other('latents as the image', { image: { tensor: inputs.latents[1] } }),
    one('latents of a batch as the image', { ...pair, image: { tensor: inputs.latents[0] } }),
    one('eight-bit pictures', { ...pair, output: 'image' }),
    one('strength 0.58 of 50 steps, truncated', { strength: 0.058, numInferenceSteps: 50 }),
    one('a v-prediction checkpoint with short prompts, an image of odd latents', {
      checkpoint: inputs.short,
      image: { files: [third] },
    }),
  ];
}

export function textToImageOptions(inputs: OptionInputs): ParityCase[] {
  const base: Omit<ParityCase, 'name'> = {
    checkpoint: inputs.small,
    pipeline: 'StableDiffusionPipeline',
    options: { prompt: 'a red fox', numInferenceSteps: 4, height: 32, width: 24 },
    seeds: 21,
  };
  const plain = 'text-to-image with defaults';
  const one = (name: string, changes: Changes) => made(base, name, changes);
  const other = (name: string, changes: Changes) => one(name, { differsFrom: plain, ...changes });
  const pair = { prompt: ['a red fox', 'a blue robot'] };
  return [
    one(plain, {}),
    one('the checkpoint’s own size', {
      checkpoint: inputs.large,
      height: undefined,
      width: undefined,
    }),
    one('72×104 pixels', { checkpoint: inputs.large, height: 104, width: 72 }),
    other('latents to start from', { tensors: { latents: inputs.latents[1] } }),
    one('latents of a batch to start from, Euler', {
      ...pair,
      tensors: { latents: inputs.latents[0] },
      scheduler: { class: 'EulerDiscreteScheduler' },
    }),
    other('rescaled guidance', { guidanceRescale: 0.7 }),
    one('rescaled guidance of a batch', { ...pair, guidanceRescale: 0.5, numImagesPerPrompt: 2 }),
    one('a generator for each picture from text', { ...pair, seeds: [5, 6] }),
    other('clip skip 1 from text', { clipSkip: 1 }),
    one('pictures from text, eight-bit', { output: 'image' }),
  ];
}

export function schedulerOptions(inputs: OptionInputs): ParityCase[] {
  const base: Omit<ParityCase, 'name'> = {
    checkpoint: inputs.small,
    pipeline: 'StableDiffusionImg2ImgPipeline',
    options: { prompt: 'a red fox', strength: 0.7, numInferenceSteps: 6 },
    image: { files: [inputs.images[0]] },
    seeds: 31,
  };
  const one = (
    scheduler: ParityCase['scheduler'],
    name: string,
    changes: Changes = {},
  ): ParityCase => made(base, name, { scheduler, ...changes });
  const text: Changes = {
    pipeline: 'StableDiffusionPipeline',
    image: undefined,
    strength: undefined,
    height: 24,
    width: 32,
  };
  const ddim = { class: 'DDIMScheduler' } as const;
  const euler = { class: 'EulerDiscreteScheduler' } as const;
  const ancestral = { class: 'EulerAncestralDiscreteScheduler' } as const;
  const dpm = { class: 'DPMSolverMultistepScheduler' } as const;
  const plainDdim = 'DDIM with eta 0';
  const timesteps = [981, 761, 541, 321, 101];
  const ownTimesteps: Changes = { timesteps, numInferenceSteps: undefined };
  const ownSigmas: Changes = { sigmas: [12.5, 5, 2.1, 0.9, 0.3, 0], numInferenceSteps: undefined };
  const zeroSnr = { rescaleBetasZeroSnr: true, timestepSpacing: 'trailing' };
  return [
    one(ddim, plainDdim),
    one(ddim, 'DDIM with eta 0.4', { eta: 0.4, differsFrom: plainDdim }),
    one(ddim, 'DDIM with eta 1 and generators', { eta: 1, numImagesPerPrompt: 2, seeds: [1, 2] }),
    one(euler, 'eta with Euler, which has no use for it', { eta: 0.5 }),
    one(
      { ...ddim, config: { ...zeroSnr, predictionType: 'v_prediction' } },
      'DDIM, zero SNR',
      text,
    ),
    one({ ...euler, config: { useKarrasSigmas: true } }, 'Euler, Karras sigmas'),
    one({ ...euler, config: { timestepSpacing: 'trailing' } }, 'Euler, trailing', text),
    one({ ...ancestral, config: { timestepSpacing: 'linspace' } }, 'Euler a, linspace', text),
    one(
      { ...dpm, config: { useKarrasSigmas: true, algorithmType: 'sde-dpmsolver++' } },
      'DPM++ SDE, Karras sigmas',
    ),
    one({ ...dpm, config: { solverOrder: 3, timestepSpacing: 'trailing' } }, 'DPM++ 3M', text),
    one(euler, 'custom timesteps with Euler', ownTimesteps),
    one(euler, 'custom sigmas with Euler', ownSigmas),
    one(euler, 'custom sigmas with Euler from text', { ...text, ...ownSigmas }),
    one(dpm, 'custom timesteps with DPM++', ownTimesteps),
    one(dpm, 'custom timesteps with DPM++ from text', { ...text, ...ownTimesteps }),
  ];
}

/** Latents handed from one pipeline to the next without being decoded. */
export function chains(inputs: OptionInputs): ParityCase[] {
  const shared = { checkpoint: inputs.small, seeds: 41, options: { numInferenceSteps: 4 } };
  const first = 'latents out of text-to-image';
  const second = 'latents in and out of image-to-image';
  return [
    {
      ...shared,
      name: first,
      pipeline: 'StableDiffusionPipeline',
      options: { ...shared.options, prompt: 'a red fox', height: 32, width: 24 },
      output: 'latent',
    },
    {
      ...shared,
      name: second,
      pipeline: 'StableDiffusionImg2ImgPipeline',
      options: { ...shared.options, prompt: 'a blue robot', strength: 0.5 },
      image: { latentsOf: first },
      output: 'latent',
    },
    {
      ...shared,
      name: 'latents decoded at the end of a chain',
      pipeline: 'StableDiffusionImg2ImgPipeline',
      options: { ...shared.options, prompt: ['a fox', 'oil painting'], strength: 0.6 },
      scheduler: { class: 'EulerDiscreteScheduler' },
      image: { latentsOf: second },
    },
  ];
}

/** A picture from each layout; `folders` by what they are called. */
export function layoutCases(
  folders: Record<string, { checkpoint: string; variant?: 'fp16' }>,
  image: string,
): ParityCase[] {
  return Object.entries(folders).map(([label, folder]) => ({
    ...folder,
    name: `${label}`,
    pipeline: 'StableDiffusionImg2ImgPipeline',
    options: { prompt: 'a red fox!', numInferenceSteps: 4, strength: 0.75 },
    image: { files: [image] },
    seeds: 51,
  }));
}
