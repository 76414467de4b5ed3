// What both libraries are asked to draw. A case is data only: it is run here and in Python.

import {
  LatentConsistencyModelImg2ImgPipeline,
  LatentConsistencyModelPipeline,
  StableDiffusionControlNetImg2ImgPipeline,
  StableDiffusionControlNetPipeline,
  StableDiffusionImg2ImgPipeline,
  StableDiffusionLatentUpscalePipeline,
  StableDiffusionPipeline,
  StableDiffusionUpscalePipeline,
  StableDiffusionXLControlNetImg2ImgPipeline,
  StableDiffusionXLControlNetPipeline,
  StableDiffusionXLImg2ImgPipeline,
  StableDiffusionXLPipeline,
} from '../../lib/index.js';

/** An array of float32 numbers in a file. */
export interface TensorFile {
  file: string;
  shape: number[];
}

/** Options of `generate` that JSON can hold, under their names here. */
export interface CaseOptions {
  prompt?: string | string[];
  negativePrompt?: string | string[];
  strength?: number;
  numInferenceSteps?: number;
  timesteps?: number[];
  sigmas?: number[];
  guidanceScale?: number;
  guidanceRescale?: number;
  numImagesPerPrompt?: number;
  eta?: number;
  clipSkip?: number;
  height?: number;
  width?: number;
  [name: string]: unknown;
}

/** The picture that image-to-image starts from. */
export type CaseImage =
  | { files: string[] }
  | { tensor: TensorFile }
  /** The latents that an earlier case with output 'latent' ended in. */
  | { latentsOf: string };

export interface ParityCase {
  /** Says what is drawn; unique. */
  name: string;
  /** Folder of the checkpoint. */
  checkpoint: string;
  variant?: 'fp16';
  pipeline: PipelineName;
  /** Folder of a tiny autoencoder, instead of the checkpoint's own. */
  vae?: string;
  /** Instead of the checkpoint's own scheduler, made from its configuration; camelCase fields. */
  scheduler?: { class: string; config?: Record<string, unknown> };
  options: CaseOptions;
  /** Options that are tensors. */
  tensors?: Record<string, TensorFile>;
  image?: CaseImage;
  /** Folder of the ControlNet, or a list for several. */
  controlnet?: string | string[];
  /** What the ControlNet follows; for several a list. */
  controlImage?: CaseImage | CaseImage[];
  /** One generator for the batch, or one per picture. */
  seeds?: number | number[];
  /** What is asked of torchbrush; 'tensor' unless given. */
  output?: 'tensor' | 'latent' | 'image';
  /** Name of a case that must give another picture: what this case is about would do nothing else. */
  differsFrom?: string;
}

export const pipelines = {
  LatentConsistencyModelPipeline,
  LatentConsistencyModelImg2ImgPipeline,
  StableDiffusionPipeline,
  StableDiffusionImg2ImgPipeline,
  StableDiffusionXLPipeline,
  StableDiffusionXLImg2ImgPipeline,
  StableDiffusionLatentUpscalePipeline,
  StableDiffusionUpscalePipeline,
  StableDiffusionControlNetPipeline,
  StableDiffusionControlNetImg2ImgPipeline,
  StableDiffusionXLControlNetPipeline,
  StableDiffusionXLControlNetImg2ImgPipeline,
};

export type PipelineName = keyof typeof pipelines;

/** Under which name `generate` takes the control image. */
export function controlOption({ pipeline }: ParityCase): 'image' | 'controlImage' {
  return pipeline.includes('Img2Img') ? 'controlImage' : 'image';
}

/** camelCase names to the ones that Python has. */
export function snakeCaseKeys(value: object): Record<string, unknown> {
  const snake = (key: string) =>
    key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`).replace(/prompt2$/, 'prompt_2');
  return Object.fromEntries(Object.entries(value).map(([key, entry]) => [snake(key), entry]));
}

/** Makes cases that differ from a plain one, whose name is ''; each must draw another picture. */
export function caseOf(plain: string, common: Omit<ParityCase, 'name'>) {
  return (name: string, options: CaseOptions, rest: Partial<ParityCase> = {}): ParityCase => ({
    ...common,
    name: name === '' ? plain : `${plain}, ${name}`,
    options: { ...common.options, ...options },
    ...(name !== '' && { differsFrom: plain }),
    ...rest,
  });
}
