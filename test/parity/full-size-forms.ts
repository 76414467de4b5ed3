// What is drawn from full-size folders in the published forms: few steps and small pictures.
import type { CaseOptions, ParityCase, PipelineName } from './case.js';
import { type FormFolder, type FullSizeInputs, folderOf } from './full-size-folder.js';

/** Folders that are on the disk at the same time, and what is drawn from them. */
export interface FormGroup {
  name: string;
  folders: readonly FormFolder[];
  cases(inputs: FullSizeInputs): ParityCase[];
}

const prompt = 'a red fox asleep on a green hill';
const text: CaseOptions = { prompt, negativePrompt: 'blurry', numInferenceSteps: 2 };
const size = { height: 64, width: 96 };
/** Turbo models are drawn without. */
const unguided: CaseOptions = { guidanceScale: 0, negativePrompt: undefined };
const half = { variant: 'fp16' } as const;

/** A case named by its form; with what is not as usual of text-to-image. */
function textToImage(
  form: string,
  options: CaseOptions = {},
  rest: Partial<ParityCase> = {},
): ParityCase {
  const pipeline: PipelineName = form.startsWith('sdxl')
    ? 'StableDiffusionXLPipeline'
    : 'StableDiffusionPipeline';
  return {
    name: `${form}, text-to-image`,
    checkpoint: folderOf(form),
    pipeline,
    options: { ...text, ...size, ...options },
    seeds: 3,
    ...rest,
  };
}

/** The same for image-to-image. */
function imageToImage(
  form: string,
  { image }: FullSizeInputs,
  options: CaseOptions = {},
  rest: Partial<ParityCase> = {},
): ParityCase {
  return {
    ...textToImage(form),
    name: `${form}, image-to-image`,
    pipeline: form.startsWith('sdxl')
      ? 'StableDiffusionXLImg2ImgPipeline'
      : 'StableDiffusionImg2ImgPipeline',
    options: { ...text, numInferenceSteps: 4, strength: 0.5, ...options },
    image: { files: [image] },
    ...rest,
  };
}

export const formGroups: readonly FormGroup[] = [
  {
    name: 'sd14',
    folders: [{ form: 'sd14' }],
    cases: (inputs) => [textToImage('sd14'), imageToImage('sd14', inputs, {}, half)],
  },
  {
    name: 'sd15',
    folders: [
      { form: 'sd15' },
      { form: 'controlnet-sd15-canny' },
      { form: 'controlnet-sd15-depth' },
      { form: 'taesd' },
    ],
    cases: (inputs) => {
      const plain = textToImage('sd15');
      const control = (form: string, rest: Partial<ParityCase>): ParityCase => ({
        ...plain,
        name: form,
        pipeline: 'StableDiffusionControlNetPipeline',
        controlnet: folderOf(form),
        controlImage: { files: [inputs.control] },
        differsFrom: plain.name,
        ...rest,
      });
      return [
        plain,
        control('controlnet-sd15-canny', {}),
        { ...imageToImage('sd15', inputs), name: 'taesd', vae: folderOf('taesd') },
        imageToImage('sd15', inputs, {}, half),
        control('controlnet-sd15-depth', half),
      ];
    },
  },
  {
    name: 'sd2',
    folders: [{ form: 'sd21' }, { form: 'sd21-base', like: 'sd21' }],
    cases: (inputs) => [textToImage('sd21'), imageToImage('sd21-base', inputs)],
  },
  {
    name: 'sd-turbo',
    folders: [{ form: 'sd-turbo' }],
    cases: (inputs) => [
      textToImage('sd-turbo', { ...unguided, numInferenceSteps: 1 }, half),
      imageToImage('sd-turbo', inputs, unguided, half),
    ],
  },
  {
    name: 'styles',
    folders: [
      { form: 'nitro-diffusion' },
      { form: 'elden-ring-diffusion', like: 'nitro-diffusion' },
      { form: 'pixel-art-style', like: 'nitro-diffusion' },
    ],
    cases: (inputs) => [
      textToImage('nitro-diffusion'),
      imageToImage('elden-ring-diffusion', inputs),
      imageToImage('pixel-art-style', inputs),
    ],
  },
  {
    name: 'lcm',
    folders: [{ form: 'lcm-dreamshaper-v7' }],
    cases: (inputs) => {
      const form = 'lcm-dreamshaper-v7';
      const options = { negativePrompt: undefined };
      return [
        textToImage(form, options, { pipeline: 'LatentConsistencyModelPipeline' }),
        imageToImage(form, inputs, options, { pipeline: 'LatentConsistencyModelImg2ImgPipeline' }),
      ];
    },
  },
  {
    name: 'upscalers',
    folders: [{ form: 'sd-x2-latent-upscaler' }, { form: 'x4-upscaler' }],
    cases: ({ square, thumbnail }) => {
      const upscale = (form: string, pipeline: PipelineName, image: string): ParityCase => ({
        name: form,
        checkpoint: folderOf(form),
        pipeline,
        options: text,
        image: { files: [image] },
        seeds: 3,
      });
      return [
        upscale('sd-x2-latent-upscaler', 'StableDiffusionLatentUpscalePipeline', square),
        upscale('x4-upscaler', 'StableDiffusionUpscalePipeline', thumbnail),
      ];
    },
  },
  {
    name: 'sdxl-base',
    folders: [{ form: 'sdxl-base' }, { form: 'controlnet-sdxl-depth' }],
    cases: (inputs) => [
      textToImage('sdxl-base'),
      imageToImage('sdxl-base', inputs),
      // With given embeddings: the text encoders are not read then, and all fits in 16 GB.
      {
        ...textToImage('sdxl-base'),
        name: 'controlnet-sdxl-depth',
        pipeline: 'StableDiffusionXLControlNetPipeline',
        controlnet: folderOf('controlnet-sdxl-depth'),
        controlImage: { files: [inputs.control] },
        options: { ...size, numInferenceSteps: 2 },
        tensors: inputs.xlEmbeddings,
      },
    ],
  },
  {
    name: 'sdxl-turbo',
    folders: [{ form: 'sdxl-turbo' }],
    cases: (inputs) => [
      textToImage('sdxl-turbo', { ...unguided, numInferenceSteps: 1 }, half),
      imageToImage('sdxl-turbo', inputs, unguided, half),
    ],
  },
  {
    name: 'sdxl-refiner',
    folders: [{ form: 'sdxl-refiner' }],
    cases: (inputs) => [imageToImage('sdxl-refiner', inputs)],
  },
];
