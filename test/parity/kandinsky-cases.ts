// What both libraries are asked to make with Kandinsky 2.2. A case is data only.
import type { CaseImage, TensorFile } from './case.js';

export type KandinskyPipelineName =
  | 'KandinskyV22PriorPipeline'
  | 'interpolate'
  | 'KandinskyV22Pipeline'
  | 'KandinskyV22Img2ImgPipeline'
  | 'KandinskyV22CombinedPipeline'
  | 'KandinskyV22Img2ImgCombinedPipeline';

export type Ingredient = { text: string } | { file: string } | { tensor: TensorFile };

export interface KandinskyCase {
  /** Unique; says what is made. */
  name: string;
  /** Names the folders of the prior and the decoder. */
  checkpoint: string;
  pipeline: KandinskyPipelineName;
  /** Instead of the decoder's own. */
  scheduler?: { class: 'DDPMScheduler' | 'DDIMScheduler'; config?: Record<string, unknown> };
  options: Record<string, unknown>;
  tensors?: Record<string, TensorFile>;
  images?: Extract<CaseImage, { files: string[] }>['files'];
  ingredients?: Ingredient[];
  seeds?: number | number[];
  /** Name of a case that must give another result: what this case is about would do nothing else. */
  differsFrom?: string;
}

export interface KandinskyInputs {
  /** Wider than high, higher than wide, and much larger than what is drawn. */
  images: [string, string, string];
  /** Embeddings [1,24], [2,24] and their negatives, and [1,40] and its negative. */
  embeddings: Record<'one' | 'notOne' | 'two' | 'notTwo' | 'wide' | 'notWide', TensorFile>;
  /** Noise of the prior [1,24] and [2,24], of the decoder [1,4,8,12], and pixels. */
  noise: Record<'prior' | 'priorPair' | 'decoder', TensorFile>;
  pixels: TensorFile;
  clipPixels: TensorFile;
}

const fox = 'a red fox asleep on a green hill';
const robot = 'a blue robot';
const bad = 'blurry, low quality';
const small = { checkpoint: 'two-levels:1' } as const;
const large = { checkpoint: 'three-levels:2' } as const;

export function priorCases({ images, noise, clipPixels }: KandinskyInputs): KandinskyCase[] {
  const prior = { ...small, pipeline: 'KandinskyV22PriorPipeline' } as const;
  const mix = { ...small, pipeline: 'interpolate' } as const;
  const few = { prompt: fox, numInferenceSteps: 4 };
  const plain = 'prior: one prompt, the usual 25 steps';
  const mixed = { numInferenceSteps: 3, weights: [0.3, 0.5, 0.2] };
  const ingredients = [{ text: fox }, { file: images[0] }, { tensor: clipPixels }];
  const mixture = 'interpolation of a text, a picture and pixels';
  const unguided = 'prior: without guidance';
  return [
    { ...prior, name: plain, options: { prompt: fox }, seeds: 1 },
    { ...prior, ...large, name: 'prior: another architecture', options: few, seeds: 2 },
    {
      ...prior,
      name: 'prior: negative prompt',
      options: { ...few, negativePrompt: bad },
      seeds: 3,
    },
    {
      ...prior,
      name: 'prior: an empty negative prompt is drawn too',
      options: { ...few, negativePrompt: '' },
      seeds: 3,
      differsFrom: 'prior: negative prompt',
    },
    {
      ...prior,
      name: 'prior: two prompts with negatives, three of each',
      options: {
        ...few,
        prompt: [fox, robot],
        negativePrompt: [bad, ''],
        numImagesPerPrompt: 3,
        guidanceScale: 2.5,
      },
      seeds: 4,
    },
    {
      ...prior,
      name: 'prior: one generator per row',
      options: { ...few, prompt: [fox, robot] },
      seeds: [5, 6],
    },
    { ...prior, name: unguided, options: { ...few, guidanceScale: 1 }, seeds: 7 },
    {
      ...prior,
      name: 'prior: without guidance a negative prompt is drawn all the same',
      options: { ...few, guidanceScale: 0.5, negativePrompt: bad },
      seeds: 7,
      differsFrom: unguided,
    },
    {
      ...prior,
      name: 'prior: latents',
      options: few,
      tensors: { latents: noise.prior },
      seeds: 8,
      differsFrom: plain,
    },
    { ...mix, name: mixture, options: mixed, ingredients, seeds: 9 },
    {
      ...mix,
      name: 'interpolation with both negative prompts, two of each',
      options: {
        ...mixed,
        negativePriorPrompt: bad,
        negativePrompt: robot,
        numImagesPerPrompt: 2,
      },
      ingredients,
      seeds: 9,
    },
    {
      ...mix,
      name: 'interpolation with a negative prompt in the prior',
      options: { ...mixed, negativePriorPrompt: bad, guidanceScale: 3 },
      ingredients,
      seeds: 9,
      differsFrom: mixture,
    },
    {
      ...mix,
      name: 'interpolation with a negative prompt, from given noise',
      options: { ...mixed, negativePrompt: bad },
      tensors: { latents: noise.prior },
      ingredients,
      seeds: 10,
      differsFrom: mixture,
    },
  ];
}

// The last of these timesteps adds no noise. At the usual last one, 1, the smaller end of the range is
// the variance 1e-20: with random weights what lies outside of the range is then immense.
const learned = {
  class: 'DDPMScheduler',
  config: { varianceType: 'learned_range', timestepSpacing: 'linspace' },
} as const;

export function decoderCases({ embeddings, noise }: KandinskyInputs): KandinskyCase[] {
  const { one, notOne, two, notTwo, wide, notWide } = embeddings;
  const decoder = { ...small, pipeline: 'KandinskyV22Pipeline' } as const;
  const options = { numInferenceSteps: 4, height: 32, width: 48 };
  const tensors = { imageEmbeds: one, negativeImageEmbeds: notOne };
  const plain = 'decoder: one embedding';
  const base = { ...decoder, options, tensors };
  return [
    { ...base, name: plain, seeds: 1 },
    {
      ...base,
      name: 'decoder: learned variance',
      scheduler: learned,
      seeds: 1,
      differsFrom: plain,
    },
    {
      ...base,
      name: 'decoder: learned variance without guidance',
      scheduler: learned,
      options: { ...options, guidanceScale: 1 },
      seeds: 1,
    },
    { ...base, name: 'decoder: DDIM', scheduler: { class: 'DDIMScheduler' }, seeds: 2 },
    {
      ...base,
      name: 'decoder: without guidance',
      options: { ...options, guidanceScale: 0 },
      seeds: 1,
      differsFrom: plain,
    },
    {
      ...base,
      name: 'decoder: two embeddings, two pictures each',
      options: { ...options, numImagesPerPrompt: 2, guidanceScale: 7 },
      tensors: { imageEmbeds: two, negativeImageEmbeds: notTwo },
      seeds: 3,
    },
    {
      ...base,
      name: 'decoder: one generator per picture',
      tensors: { imageEmbeds: two, negativeImageEmbeds: notTwo },
      seeds: [4, 5],
    },
    {
      ...base,
      name: 'decoder: given noise, sizes rounded up',
      options: { ...options, height: 29, width: 45 },
      tensors: { ...tensors, latents: noise.decoder },
      seeds: 6,
    },
    {
      ...decoder,
      ...large,
      name: 'decoder: another architecture, 12 steps',
      options: { numInferenceSteps: 12, height: 40, width: 32 },
      tensors: { imageEmbeds: wide, negativeImageEmbeds: notWide },
      seeds: 7,
    },
  ];
}

export function imageToImageCases({
  embeddings,
  images,
  pixels,
}: KandinskyInputs): KandinskyCase[] {
  const { one, notOne, two, notTwo, wide, notWide } = embeddings;
  const decoder = { ...small, pipeline: 'KandinskyV22Img2ImgPipeline' } as const;
  const options = { numInferenceSteps: 10, height: 32, width: 32 };
  const tensors = { imageEmbeds: one, negativeImageEmbeds: notOne };
  const plain = 'decoder, image-to-image: square, the usual strength';
  const base = { ...decoder, options, tensors, images: [images[0]] };
  const pair = { imageEmbeds: two, negativeImageEmbeds: notTwo };
  return [
    { ...base, name: plain, seeds: 1 },
    {
      ...base,
      name: 'decoder, image-to-image: higher than wide, sizes rounded down',
      options: { ...options, height: 49, width: 33, strength: 0.5 },
      images: [images[1]],
      seeds: 2,
    },
    {
      ...base,
      name: 'decoder, image-to-image: wider than high, scaled down a lot',
      options: { ...options, height: 32, width: 64, strength: 0.58 },
      images: [images[2]],
      seeds: 3,
    },
    {
      ...base,
      name: 'decoder, image-to-image: strength 1 without guidance',
      options: { ...options, strength: 1, guidanceScale: 1, numInferenceSteps: 4 },
      seeds: 4,
      differsFrom: plain,
    },
    {
      ...base,
      name: 'decoder, image-to-image: two images for two embeddings, two pictures each',
      options: { ...options, numImagesPerPrompt: 2, strength: 0.4 },
      tensors: pair,
      images: [images[0], images[1]],
      seeds: 5,
    },
    {
      ...base,
      name: 'decoder, image-to-image: one image for two embeddings shares its noise',
      options: { ...options, strength: 0.4 },
      tensors: pair,
      seeds: 5,
    },
    {
      ...base,
      name: 'decoder, image-to-image: one generator per picture, learned variance',
      scheduler: learned,
      tensors: pair,
      images: [images[0], images[1]],
      seeds: [6, 7],
    },
    {
      ...decoder,
      name: 'decoder, image-to-image: pixels in a tensor, DDIM',
      scheduler: { class: 'DDIMScheduler' },
      options: { ...options, height: 40, width: 24, strength: 0.6 },
      tensors: { ...tensors, image: pixels },
      seeds: 8,
    },
    {
      ...base,
      ...large,
      name: 'decoder, image-to-image: another architecture',
      tensors: { imageEmbeds: wide, negativeImageEmbeds: notWide },
      seeds: 9,
    },
  ];
}

export function combinedCases({ images, noise, pixels }: KandinskyInputs): KandinskyCase[] {
  const textToImage = { ...small, pipeline: 'KandinskyV22CombinedPipeline' } as const;
  const imageToImage = { ...small, pipeline: 'KandinskyV22Img2ImgCombinedPipeline' } as const;
  const few = { prompt: fox, height: 32, width: 48, priorNumInferenceSteps: 3 };
  const drawn = { ...few, numInferenceSteps: 4 };
  const redrawn = { ...few, height: 48, width: 32, numInferenceSteps: 10 };
  const plain = 'combined: one prompt';
  const plainImage = 'combined, image-to-image: one prompt';
  return [
    { ...textToImage, name: plain, options: drawn, seeds: 1 },
    {
      ...textToImage,
      name: 'combined: negative prompt',
      options: { ...drawn, negativePrompt: bad },
      seeds: 1,
      differsFrom: plain,
    },
    {
      ...textToImage,
      name: 'combined: two prompts with negatives, two pictures each',
      options: {
        ...drawn,
        prompt: [fox, robot],
        negativePrompt: [bad, bad],
        numImagesPerPrompt: 2,
        priorGuidanceScale: 2,
        guidanceScale: 6,
      },
      seeds: 2,
    },
    {
      ...textToImage,
      name: 'combined: guidance in the prior only',
      options: { ...drawn, guidanceScale: 1 },
      seeds: 3,
    },
    {
      ...textToImage,
      name: 'combined: guidance in the decoder only',
      options: { ...drawn, priorGuidanceScale: 1 },
      seeds: 3,
      differsFrom: plain,
    },
    {
      ...textToImage,
      name: 'combined: the latents are the prior’s',
      options: { ...drawn, negativePrompt: bad },
      tensors: { latents: noise.priorPair },
      seeds: 4,
    },
    {
      ...textToImage,
      name: 'combined: one generator per row, the decoder uses the first',
      options: { ...drawn, negativePrompt: bad },
      seeds: [5, 6],
    },
    { ...textToImage, ...large, name: 'combined: another architecture', options: drawn, seeds: 7 },
    { ...imageToImage, name: plainImage, options: redrawn, images: [images[0]], seeds: 1 },
    {
      ...imageToImage,
      name: 'combined, image-to-image: one image for two prompts, two pictures each',
      options: { ...redrawn, prompt: [fox, robot], numImagesPerPrompt: 2, strength: 0.5 },
      images: [images[2]],
      seeds: 2,
    },
    {
      ...imageToImage,
      name: 'combined, image-to-image: two images in turn for four pictures',
      options: {
        ...redrawn,
        prompt: [fox, robot],
        negativePrompt: ['', bad],
        numImagesPerPrompt: 2,
      },
      images: [images[0], images[1]],
      seeds: 3,
    },
    {
      ...imageToImage,
      name: 'combined, image-to-image: pixels in a tensor share their noise',
      options: { ...redrawn, numImagesPerPrompt: 2, strength: 0.6 },
      tensors: { image: pixels },
      seeds: 4,
    },
    {
      ...imageToImage,
      ...large,
      name: 'combined, image-to-image: another architecture',
      options: redrawn,
      images: [images[1]],
      seeds: 5,
    },
  ];
}
