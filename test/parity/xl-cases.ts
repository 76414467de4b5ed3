// What is drawn with Stable Diffusion XL: each option at least once where it must show.
import type { CaseOptions, ParityCase, TensorFile } from './case.js';

interface XLInputs {
  base: string;
  /** As the base was published. */
  other: string;
  /** As it was published in float16. */
  half: string;
  /** As it was published. */
  refiner: string;
  images: [string, string];
  promptEmbeds: TensorFile;
  negativePromptEmbeds: TensorFile;
  pooledPromptEmbeds: TensorFile;
  negativePooledPromptEmbeds: TensorFile;
  latents: TensorFile;
}

const prompt = 'a red fox asleep on a green hill';
const size = { height: 32, width: 24 };
const few = { numInferenceSteps: 4 };

export function xlCases(inputs: XLInputs): ParityCase[] {
  return [...textToImage(inputs), ...imageToImage(inputs), ...refiner(inputs)];
}

function textToImage({ base, other, half, latents, ...embeddings }: XLInputs): ParityCase[] {
  const plain = 'XL: text-to-image';
  const draw = (
    name: string,
    options: CaseOptions,
    rest: Partial<ParityCase> = {},
  ): ParityCase => ({
    name: name === '' ? plain : `${plain}, ${name}`,
    checkpoint: base,
    pipeline: 'StableDiffusionXLPipeline',
    options: { prompt, ...size, ...few, ...options },
    seeds: 7,
    ...(name !== '' && { differsFrom: plain }),
    ...rest,
  });
  const sizes = {
    originalSize: [512, 384],
    targetSize: [256, 256],
    cropsCoordsTopLeft: [16, 8],
  };
  const negativeSizes = {
    negativeOriginalSize: [128, 64],
    negativeTargetSize: [1024, 1024],
    negativeCropsCoordsTopLeft: [4, 2],
  };
  const { promptEmbeds, negativePromptEmbeds, pooledPromptEmbeds, negativePooledPromptEmbeds } =
    embeddings;
  return [
    draw('', {}),
    draw('another checkpoint', {}, { checkpoint: other, seeds: 8 }),
    draw('an fp16 variant', {}, { checkpoint: half, variant: 'fp16', seeds: 8 }),
    draw('default size, guidance off', { guidanceScale: 1, height: undefined, width: undefined }),
    draw('an empty negative prompt is no missing one', { negativePrompt: '' }),
    draw('a negative prompt', { negativePrompt: 'a blue robot' }),
    draw('second prompts', {
      prompt2: 'oil painting',
      negativePrompt2: 'a dog',
      negativePrompt: 'x',
    }),
    draw(
      'second negative prompt alone is ignored',
      { negativePrompt2: 'a dog' },
      { differsFrom: undefined },
    ),
    draw('two prompts, two pictures each', {
      prompt: [prompt, 'two cats'],
      negativePrompt: 'a dog',
      numImagesPerPrompt: 2,
    }),
    draw('a generator each', { prompt: [prompt, 'two cats'] }, { seeds: [3, 4] }),
    draw('sizes', sizes),
    draw('negative sizes, rows in turn', { ...sizes, ...negativeSizes, numImagesPerPrompt: 2 }),
    draw(
      'one negative size alone is ignored',
      { negativeOriginalSize: [64, 64] },
      { differsFrom: undefined },
    ),
    draw('clip skip', { clipSkip: 1, negativePrompt: 'a dog' }),
    draw('guidance rescale', { guidanceRescale: 0.7 }),
    draw('high guidance', { guidanceScale: 9 }),
    draw('given latents', {}, { tensors: { latents } }),
    draw(
      'embeddings',
      { prompt: undefined },
      {
        tensors: {
          promptEmbeds,
          negativePromptEmbeds,
          pooledPromptEmbeds,
          negativePooledPromptEmbeds,
        },
      },
    ),
    draw(
      'embeddings without negative ones',
      { prompt: undefined },
      { tensors: { promptEmbeds, pooledPromptEmbeds } },
    ),
    draw('ancestral noise', {}, { scheduler: { class: 'EulerAncestralDiscreteScheduler' } }),
    draw('eta', { eta: 0.6 }, { scheduler: { class: 'DDIMScheduler' } }),
    draw('solver', {}, { scheduler: { class: 'DPMSolverMultistepScheduler' } }),
    draw('custom timesteps', { numInferenceSteps: undefined, timesteps: [999, 600, 300, 20] }),
    draw('8 bit', {}, { output: 'image', differsFrom: undefined }),
  ];
}

function imageToImage({ base, images }: XLInputs): ParityCase[] {
  const plain = 'XL: image-to-image';
  const draw = (
    name: string,
    options: CaseOptions,
    rest: Partial<ParityCase> = {},
  ): ParityCase => ({
    name: name === '' ? plain : `${plain}, ${name}`,
    checkpoint: base,
    pipeline: 'StableDiffusionXLImg2ImgPipeline',
    options: { prompt, strength: 0.5, numInferenceSteps: 8, ...options },
    image: { files: [images[0]] },
    seeds: 11,
    ...(name !== '' && { differsFrom: plain }),
    ...rest,
  });
  return [
    draw('', {}),
    draw('default strength', { strength: undefined, numInferenceSteps: 10 }),
    draw('full strength, guidance off', { strength: 1, guidanceScale: 1, numInferenceSteps: 4 }),
    draw('two images, two prompts', { prompt: [prompt, 'two cats'] }, { image: { files: images } }),
    draw('an odd size', {}, { image: { files: [images[1]] } }),
    draw('two pictures, a generator each', { numImagesPerPrompt: 2 }, { seeds: [5, 6] }),
    draw('sizes and negative ones', {
      originalSize: [512, 384],
      negativeOriginalSize: [64, 64],
      negativeCropsCoordsTopLeft: [9, 9],
      cropsCoordsTopLeft: [3, 5],
    }),
    draw('stopped early', { strength: 0.8, denoisingEnd: 0.6 }, { output: 'latent' }),
    draw('multistep noise schedule of its own', {}, { scheduler: { class: 'PNDMScheduler' } }),
  ];
}

function refiner({ base, refiner: checkpoint, images }: XLInputs): ParityCase[] {
  const handOver = 'XL: base up to 0.7, in latents';
  const plain = 'XL: refiner';
  const draw = (
    name: string,
    options: CaseOptions,
    rest: Partial<ParityCase> = {},
  ): ParityCase => ({
    name: name === '' ? plain : `${plain}, ${name}`,
    checkpoint,
    pipeline: 'StableDiffusionXLImg2ImgPipeline',
    options: { prompt, numInferenceSteps: 10, ...options },
    image: { files: [images[0]] },
    seeds: 21,
    ...(name !== '' && { differsFrom: plain }),
    ...rest,
  });
  const continued = { image: { latentsOf: handOver } };
  return [
    {
      name: handOver,
      checkpoint: base,
      pipeline: 'StableDiffusionXLPipeline',
      options: { prompt, ...size, numInferenceSteps: 10, denoisingEnd: 0.7 },
      seeds: 20,
      output: 'latent',
    },
    draw('', {}),
    draw('goes on from 0.7', { denoisingStart: 0.7 }, continued),
    draw(
      'goes on from 0.7 to 0.9',
      { denoisingStart: 0.7, denoisingEnd: 0.9 },
      { ...continued, output: 'latent' },
    ),
    draw('a start of 0 adds no noise', { denoisingStart: 0, strength: 0.4 }, continued),
    draw('aesthetic scores', { aestheticScore: 9, negativeAestheticScore: 1 }),
    draw('negative sizes', { negativeOriginalSize: [99, 77], negativeCropsCoordsTopLeft: [7, 7] }),
    draw('a second prompt is ignored', { prompt2: 'a dog' }, { differsFrom: undefined }),
    draw(
      'no zeros for a missing negative prompt',
      { negativePrompt: '' },
      { differsFrom: undefined },
    ),
    draw(
      'solver goes on',
      { denoisingStart: 0.7 },
      { ...continued, scheduler: { class: 'DPMSolverMultistepScheduler' } },
    ),
  ];
}
