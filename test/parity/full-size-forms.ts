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

/** Of one family: text-to-image and image-to-image. */
type PipelinePair = readonly [PipelineName, PipelineName];

/** Text-to-image, and image-to-image from the picture of 128×96 pixels. */
function both(
  what: string,
  [textToImage, imageToImage]: PipelinePair,
  checkpoint: string,
  { image }: FullSizeInputs,
  options: CaseOptions = {},
  rest: Partial<ParityCase> = {},
): ParityCase[] {
  const common = { checkpoint, seeds: 3, ...rest };
  return [
    {
      name: `${what}, text-to-image`,
      ...common,
      pipeline: textToImage,
      options: { ...text, ...size, ...options },
    },
    {
      name: `${what}, image-to-image`,
      ...common,
      pipeline: imageToImage,
      options: { ...text, numInferenceSteps: 4, strength: 0.5, ...options },
      image: { files: [image] },
    },
  ];
}

const plain = ['StableDiffusionPipeline', 'StableDiffusionImg2ImgPipeline'] as const;
const xl = ['StableDiffusionXLPipeline', 'StableDiffusionXLImg2ImgPipeline'] as const;
const half = { variant: 'fp16' } as const;
/** As turbo models are drawn with. */
const unguided: CaseOptions = { guidanceScale: 0, negativePrompt: undefined };

export const formGroups: readonly FormGroup[] = [
  {
    name: 'sd14',
    folders: [{ form: 'sd14' }],
    cases: (inputs) => [
      ...both('sd14, plain files', plain, folderOf('sd14'), inputs),
      ...both('sd14, fp16 variant', plain, folderOf('sd14'), inputs, {}, half),
    ],
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
      const checkpoint = folderOf('sd15');
      const control = [
        'StableDiffusionControlNetPipeline',
        'StableDiffusionControlNetImg2ImgPipeline',
      ] as const;
      const canny = { controlnet: folderOf('controlnet-sd15-canny') };
      const depth = { controlnet: folderOf('controlnet-sd15-depth'), ...half };
      const controlImage = { controlImage: { files: [inputs.control] } };
      const differsFrom = 'sd15, plain files, text-to-image';
      const draw = (name: string, classes: PipelinePair, rest: Partial<ParityCase> = {}) =>
        both(name, classes, checkpoint, inputs, {}, rest);
      return [
        ...draw('sd15, plain files', plain),
        ...draw('controlnet-sd15-canny', control, { ...canny, ...controlImage, differsFrom }),
        ...draw('taesd', plain, { vae: folderOf('taesd'), differsFrom }),
        ...draw('sd15, fp16 variant', plain, half),
        ...draw('controlnet-sd15-depth', control, { ...depth, ...controlImage, differsFrom }),
      ];
    },
  },
  {
    name: 'sd2',
    folders: [{ form: 'sd21' }, { form: 'sd21-base', like: 'sd21' }],
    cases: (inputs) =>
      ['sd21', 'sd21-base'].flatMap((form) => both(form, plain, folderOf(form), inputs)),
  },
  {
    name: 'sd-turbo',
    folders: [{ form: 'sd-turbo' }],
    cases: (inputs) =>
      both('sd-turbo, fp16 variant', plain, folderOf('sd-turbo'), inputs, unguided, half),
  },
  {
    name: 'styles',
    folders: [
      { form: 'nitro-diffusion' },
      { form: 'elden-ring-diffusion', like: 'nitro-diffusion' },
      { form: 'pixel-art-style', like: 'nitro-diffusion' },
    ],
    cases: (inputs) =>
      ['nitro-diffusion', 'elden-ring-diffusion', 'pixel-art-style'].flatMap((form) =>
        both(form, plain, folderOf(form), inputs),
      ),
  },
  {
    name: 'lcm',
    folders: [{ form: 'lcm-dreamshaper-v7' }],
    cases: (inputs) => {
      const options = { negativePrompt: undefined, guidanceScale: 8 };
      return both('lcm-dreamshaper-v7', plain, folderOf('lcm-dreamshaper-v7'), inputs, options);
    },
  },
  {
    name: 'upscalers',
    folders: [{ form: 'sd-x2-latent-upscaler' }, { form: 'x4-upscaler' }],
    cases: ({ thumbnail }) => [
      {
        name: 'sd-x2-latent-upscaler',
        checkpoint: folderOf('sd-x2-latent-upscaler'),
        pipeline: 'StableDiffusionLatentUpscalePipeline',
        options: text,
        image: { files: [thumbnail] },
        seeds: 3,
      },
      {
        name: 'x4-upscaler',
        checkpoint: folderOf('x4-upscaler'),
        pipeline: 'StableDiffusionUpscalePipeline',
        options: text,
        image: { files: [thumbnail] },
        seeds: 3,
      },
    ],
  },
  {
    name: 'sdxl-base',
    folders: [{ form: 'sdxl-base' }, { form: 'controlnet-sdxl-depth' }],
    cases: (inputs) => {
      const checkpoint = folderOf('sdxl-base');
      return [
        // First, with given embeddings: the text encoders are not read then, and all fits in 16 GB.
        {
          name: 'controlnet-sdxl-depth',
          checkpoint,
          controlnet: folderOf('controlnet-sdxl-depth'),
          pipeline: 'StableDiffusionXLControlNetPipeline',
          options: { ...size, numInferenceSteps: 2 },
          tensors: inputs.xlEmbeddings,
          controlImage: { files: [inputs.control] },
          seeds: 3,
        },
        ...both('sdxl-base', xl, checkpoint, inputs),
      ];
    },
  },
  {
    name: 'sdxl-turbo',
    folders: [{ form: 'sdxl-turbo' }],
    cases: (inputs) =>
      both('sdxl-turbo, fp16 variant', xl, folderOf('sdxl-turbo'), inputs, unguided, half),
  },
  {
    name: 'sdxl-refiner',
    folders: [{ form: 'sdxl-refiner' }],
    cases: (inputs) => both('sdxl-refiner', xl, folderOf('sdxl-refiner'), inputs).slice(1),
  },
];
